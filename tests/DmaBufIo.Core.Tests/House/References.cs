using Mono.Cecil;
using Mono.Cecil.Cil;

namespace DmaBufIo.Tests.House;

/// <summary>
/// Every type that a type of an assembly names: bases, interfaces, fields, signatures, bodies, generics, attributes, nested types.
/// </summary>
internal static class References
{
    internal static IEnumerable<(TypeDefinition User, TypeReference Used)> Of(ModuleDefinition module) =>
        module.GetTypes().SelectMany(static t => OfType(t).SelectMany(Parts).Select(u => (t, u)));

    /// <summary>The namespace of a type, for a nested one that of the type around it.</summary>
    internal static string NamespaceOf(TypeReference type)
    {
        while (type.DeclaringType is not null)
            type = type.DeclaringType;
        return type.Namespace;
    }

    private static IEnumerable<TypeReference?> OfType(TypeDefinition type)
    {
        yield return type.BaseType;
        foreach (InterfaceImplementation implemented in type.Interfaces)
            yield return implemented.InterfaceType;
        foreach (TypeReference used in Attributes(type).Concat(Generics(type)))
            yield return used;
        foreach (FieldDefinition field in type.Fields)
        {
            yield return field.FieldType;
            foreach (TypeReference used in Attributes(field))
                yield return used;
        }

        foreach (ICustomAttributeProvider member in type.Properties.Cast<ICustomAttributeProvider>().Concat(type.Events))
        {
            foreach (TypeReference used in Attributes(member))
                yield return used;
        }

        foreach (MethodDefinition method in type.Methods)
        {
            foreach (TypeReference? used in OfMethod(method))
                yield return used;
        }
    }

    private static IEnumerable<TypeReference?> OfMethod(MethodDefinition method)
    {
        IEnumerable<TypeReference> named = Attributes(method).Concat(Attributes(method.MethodReturnType)).Concat(Generics(method));
        foreach (TypeReference? used in Signature(method).Concat(named))
            yield return used;
        foreach (TypeReference used in method.Parameters.SelectMany(Attributes))
            yield return used;
        foreach (MethodReference overridden in method.Overrides)
            yield return overridden.DeclaringType;
        if (!method.HasBody)
            yield break;
        foreach (VariableDefinition variable in method.Body.Variables)
            yield return variable.VariableType;
        foreach (ExceptionHandler handler in method.Body.ExceptionHandlers)
            yield return handler.CatchType;
        foreach (Instruction instruction in method.Body.Instructions)
        {
            foreach (TypeReference? used in Operand(instruction.Operand))
                yield return used;
        }
    }

    private static IEnumerable<TypeReference?> Operand(object? operand) => operand switch
    {
        TypeReference type => [type],
        FieldReference field => [field.DeclaringType, field.FieldType],
        MethodReference method => Signature(method),
        _ => [],
    };

    private static IEnumerable<TypeReference?> Signature(MethodReference method)
    {
        IEnumerable<TypeReference?> arguments = method is GenericInstanceMethod generic ? generic.GenericArguments : [];
        IEnumerable<TypeReference> parameters = method.Parameters.Select(static p => p.ParameterType);
        return arguments.Append(method.DeclaringType).Append(method.ReturnType).Concat(parameters);
    }

    private static IEnumerable<TypeReference> Attributes(ICustomAttributeProvider provider) =>
        provider.CustomAttributes.SelectMany(
            static a => a.ConstructorArguments.Select(static v => v.Value).OfType<TypeReference>().Append(a.AttributeType));

    private static IEnumerable<TypeReference> Generics(IGenericParameterProvider provider) =>
        provider.GenericParameters.SelectMany(static p => p.Constraints.Select(static c => c.ConstraintType).Concat(Attributes(p)));

    /// <summary>Takes arrays, references, pointers and generic instances apart.</summary>
    private static IEnumerable<TypeReference> Parts(TypeReference? type) => type switch
    {
        null or GenericParameter => [],
        GenericInstanceType generic => generic.GenericArguments.Append(generic.ElementType).SelectMany(Parts),
        IModifierType modified => Parts(modified.ModifierType).Concat(Parts(modified.ElementType)),
        TypeSpecification specification => Parts(specification.ElementType),
        _ => [type],
    };
}
