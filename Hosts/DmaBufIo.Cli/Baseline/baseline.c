/*
 * The request path once more, in C, as a baseline: the NVMe queue layer alone, and the whole stack from the ring's preparation to the completion in the
 * application's hands. Each loop does the same work as its C# counterpart, step by step, with the same checks; the comments name the counterpart.
 *
 * Honest by these rules: memory that a device shares is volatile; what a real stack calls through a table of operations (file, block queue, owner of a
 * bio, registers of the device) is called through one here, loaded at run time; layers are separate functions that may not be inlined where C# calls
 * through an abstract class; every completion is checked, and what was done goes into a checksum that the caller compares.
 * "Null device, same thread": commands are consumed at the doorbell and completed at once, no data moves.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define NOINLINE __attribute__((noinline))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { PAGE_SHIFT = 12, PAGE = 1 << PAGE_SHIFT, BLOCK_SHIFT = 9, BUFFER_PAGES = 4096, MAX_BYTES = 128 << 10, MAX_DEPTH = 1024, LIST_SLOTS = 32 };
enum { OP_READ = 0, OP_WRITE = 1, OP_FLUSH = 2 };
enum { FROM_DEVICE = 1, TO_DEVICE = 2 };
enum { OK = 0, EIO_ = 5, EBADF_ = 9, EAGAIN_ = 11, EACCES_ = 13, EFAULT_ = 14, ENODEV_ = 19, EINVAL_ = 22 };

static const int64_t CAPACITY = (int64_t)1 << 40;

/* ---- shared with the device ------------------------------------------------------------------------------------------------------------------ */

struct command {
    uint32_t dword0, nsid;
    uint64_t reserved[2], prp1, prp2, lba;
    uint32_t dword12, dword13;
    uint64_t dword14;
};

struct completion {
    uint32_t result, reserved, queue, dword3;
};

_Static_assert(sizeof(struct command) == 64, "a submission entry is 64 bytes");
_Static_assert(sizeof(struct completion) == 16, "a completion entry is 16 bytes");

struct device;
struct device_ops {
    void (*write32)(struct device *, int64_t offset, uint32_t value);
    void (*advance)(struct device *);
};

/* NullController: one queue pair, worked on the thread that rings its doorbell. */
struct device {
    const struct device_ops *ops;
    volatile struct command *commands;
    volatile struct completion *completions;
    uint32_t entries, head, tail, completion_tail, completion_head, phase;
    uint64_t blocks;
};

/* ---- block layer ----------------------------------------------------------------------------------------------------------------------------- */

struct map;
struct bio {
    int64_t sector, offset, size, cookie;
    int32_t owner, status;
    uint8_t operation;
};

struct owner {
    void (*bio_ended)(struct owner *, int bio);
};

/* BioPool: native bios, their maps beside them, a stack of free ones, a queue of ended ones. */
struct bio_pool {
    struct bio *bios;
    struct map **maps;
    int *free, *ended;
    struct owner *owners[4];
    int capacity, free_count, ended_head, ended_count;
};

struct block_queue;
struct block_queue_ops {
    int (*submit)(struct block_queue *, const int *bios, int count);
    void (*commit)(struct block_queue *);
    int (*poll)(struct block_queue *, int max);
};

/* NvmeDmaMap and its RequestGate: counts per context, a kill flag. */
struct map {
    const uint64_t *pages;
    struct device *device;
    int64_t length, smallest_segment;
    int direction;
    int slots;
    volatile int64_t *counts; /* 16 longs apart */
    volatile uint8_t killed;
};

struct tracker {
    int64_t started;
    int32_t bio;
    uint8_t own_range;
};

/* NvmeQueue with its TagSet. */
struct block_queue {
    const struct block_queue_ops *ops;
    struct device *device;
    struct bio_pool *pool;
    volatile struct command *submission;
    volatile struct completion *completion;
    uint64_t *lists;
    uint64_t lists_address;
    struct tracker *trackers;
    int *free_tags;
    const int64_t *now;
    uint32_t entries, tail, rung_tail, head, phase;
    int free_count, depth, state, tracker_mask;
    int64_t empty_polls;
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Environment.TickCount64: once per batch. */
static int64_t tick_count(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- null device ----------------------------------------------------------------------------------------------------------------------------- */

static uint32_t null_execute(const struct device *device, volatile struct command *command, uint32_t dword0)
{
    uint32_t opcode = dword0 & 0xFF;
    if (opcode != 1 && opcode != 2)
        return opcode == 0 ? 0 : 0x4001;
    if (command->nsid != 1)
        return 0x400B;
    uint64_t lba = command->lba, blocks = (uint64_t)(command->dword12 & 0xFFFF) + 1;
    return lba < device->blocks && blocks <= device->blocks - lba ? 0 : 0x4080;
}

static NOINLINE void null_work(struct device *device)
{
    uint32_t head = device->head, at = device->completion_tail, phase = device->phase, entries = device->entries;
    uint32_t room = device->completion_head + (device->completion_head <= at ? entries : 0) - at - 1;
    for (; head != device->tail && room != 0; room--) {
        volatile struct command *command = &device->commands[head];
        head = head + 1 == entries ? 0 : head + 1;
        uint32_t dword0 = command->dword0;
        uint32_t status = null_execute(device, command, dword0);
        volatile struct completion *completion = &device->completions[at];
        completion->queue = head | (1u << 16);
        __atomic_store_n(&completion->dword3, (dword0 >> 16) | (phase << 16) | (status << 17), __ATOMIC_RELEASE);
        if (++at == entries) {
            at = 0;
            phase ^= 1;
        }
    }
    device->head = head;
    device->completion_tail = at;
    device->phase = phase;
}

static void null_write32(struct device *device, int64_t offset, uint32_t value)
{
    if (value >= device->entries)
        return;
    if (offset == 0x1008) {
        device->tail = value;
        null_work(device);
    } else if (offset == 0x100C) {
        device->completion_head = value;
        if (device->head != device->tail)
            null_work(device);
    }
}

static void null_advance(struct device *device)
{
    (void)device;
}

/* ---- bio pool -------------------------------------------------------------------------------------------------------------------------------- */

static int bio_take(struct bio_pool *pool, int operation, struct map *map, int64_t offset, int64_t size, int64_t sector)
{
    if (pool->free_count == 0)
        return -1;
    int index = pool->free[--pool->free_count];
    if ((unsigned)index >= (unsigned)pool->capacity)
        abort();
    struct bio *bio = &pool->bios[index];
    *bio = (struct bio){ .operation = (uint8_t)operation, .offset = offset, .size = size, .sector = sector };
    pool->maps[index] = map;
    return index;
}

static void bio_release(struct bio_pool *pool, int bio)
{
    pool->maps[bio] = NULL;
    pool->free[pool->free_count++] = bio;
}

static void bio_end(struct bio_pool *pool, int bio, int status)
{
    pool->bios[bio].status = status;
    int tail = pool->ended_head + pool->ended_count++;
    pool->ended[tail >= pool->capacity ? tail - pool->capacity : tail] = bio;
}

static NOINLINE int bio_dispatch(struct bio_pool *pool)
{
    int count = 0;
    while (pool->ended_count > 0) {
        int bio = pool->ended[pool->ended_head];
        if (++pool->ended_head == pool->capacity)
            pool->ended_head = 0;
        pool->ended_count--;
        count++;
        struct owner *owner = pool->owners[pool->bios[bio].owner & 3];
        owner->bio_ended(owner, bio);
    }
    return count;
}

/* ---- NVMe queue layer ------------------------------------------------------------------------------------------------------------------------ */

/* PrpList.Build */
static void prp_build(const uint64_t *pages, int64_t offset, int length, uint64_t *list, uint64_t list_address, uint64_t *prp1, uint64_t *prp2)
{
    int64_t first = offset >> PAGE_SHIFT;
    int within = (int)(offset & (PAGE - 1));
    *prp1 = pages[first] + (uint64_t)within;
    int remaining = length - (PAGE - within);
    if (remaining <= 0) {
        *prp2 = 0;
    } else if (remaining <= PAGE) {
        *prp2 = pages[first + 1];
    } else {
        int entries = (remaining + PAGE - 1) >> PAGE_SHIFT; /* the limits keep a list within its slots */
        memcpy(list, &pages[first + 1], (size_t)entries * sizeof(*list));
        *prp2 = list_address;
    }
}

/* NvmeQueue.Start */
static int nvme_start(struct block_queue *queue, int handle, int tag)
{
    struct bio_pool *pool = queue->pool;
    if (UNLIKELY((unsigned)handle >= (unsigned)pool->capacity))
        abort();
    struct bio *bio = &pool->bios[handle];
    uint64_t prp1 = 0, prp2 = 0, lba = 0;
    uint32_t dword0 = (uint32_t)tag << 16, dword12 = 0, flush = bio->operation == OP_FLUSH;
    if (!flush) {
        uint64_t misaligned = ((uint64_t)bio->sector << 9 | (uint64_t)bio->size) & ((1 << BLOCK_SHIFT) - 1);
        if (misaligned != 0 || (bio->offset & 3) != 0 || bio->size <= 0 || bio->size > MAX_BYTES || bio->sector < 0 || bio->offset < 0)
            return EINVAL_;
        struct map *map = pool->maps[handle];
        if (map == NULL)
            return EINVAL_;
        if (map->device != queue->device)
            return EBADF_;
        int write = bio->operation == OP_WRITE;
        if ((map->direction & (write ? TO_DEVICE : FROM_DEVICE)) == 0)
            return EACCES_;
        if (bio->offset > map->length - bio->size)
            return EFAULT_;
        uint64_t list = (uint64_t)tag * LIST_SLOTS;
        prp_build(map->pages, bio->offset, (int)bio->size, queue->lists + list, queue->lists_address + list * 8, &prp1, &prp2);
        dword0 |= write ? 1 : 2;
        lba = (uint64_t)bio->sector >> (BLOCK_SHIFT - 9);
        dword12 = (uint32_t)(bio->size >> BLOCK_SHIFT) - 1;
    }
    volatile struct command *command = &queue->submission[queue->tail];
    command->dword0 = dword0;
    command->nsid = 1;
    command->reserved[0] = 0;
    command->reserved[1] = 0;
    command->prp1 = prp1;
    command->prp2 = prp2;
    command->lba = lba;
    command->dword12 = dword12;
    command->dword13 = 0;
    command->dword14 = 0;
    if (++queue->tail == queue->entries)
        queue->tail = 0;
    struct tracker *tracker = &queue->trackers[tag & queue->tracker_mask];
    tracker->bio = handle;
    tracker->own_range = 0;
    tracker->started = *queue->now;
    return OK;
}

static int nvme_submit(struct block_queue *queue, const int *bios, int count)
{
    int taken = 0;
    if (queue->state != 1)
        return 0;
    while (taken < count && queue->free_count > 0) {
        int tag = queue->free_tags[--queue->free_count];
        int bio = bios[taken++];
        int status = nvme_start(queue, bio, tag);
        if (UNLIKELY(status != OK)) {
            queue->trackers[tag & queue->tracker_mask].bio = -1;
            queue->free_tags[queue->free_count++] = tag;
            bio_end(queue->pool, bio, status);
        }
    }
    return taken;
}

static void nvme_commit(struct block_queue *queue)
{
    if (queue->tail == queue->rung_tail || queue->state != 1)
        return;
    queue->rung_tail = queue->tail;
    queue->device->ops->write32(queue->device, 0x1008, queue->tail);
}

static int nvme_poll(struct block_queue *queue, int max)
{
    int consumed = 0;
    if (queue->state != 1)
        return 0;
    queue->device->ops->advance(queue->device);
    while (consumed < max) {
        uint32_t last = __atomic_load_n(&queue->completion[queue->head].dword3, __ATOMIC_ACQUIRE);
        if (((last >> 16) & 1) != queue->phase)
            break;
        if (++queue->head == queue->entries) {
            queue->head = 0;
            queue->phase ^= 1;
        }
        consumed++;
        int tag = (int)(last & 0xFFFF);
        if (UNLIKELY(tag >= queue->depth || queue->trackers[tag].bio < 0)) {
            queue->state = 0; /* the counterpart resets the controller */
            continue;
        }
        int code = (int)(last >> 17) & 0x7FF;
        int bio = queue->trackers[tag].bio;
        queue->trackers[tag].bio = -1;
        queue->free_tags[queue->free_count++] = tag;
        bio_end(queue->pool, bio, code == 0 ? OK : EIO_);
    }
    if (consumed != 0)
        queue->device->ops->write32(queue->device, 0x100C, queue->head);
    else
        queue->empty_polls++;
    return consumed;
}

/* ---- file ------------------------------------------------------------------------------------------------------------------------------------ */

struct iter {
    struct map *map;
    int64_t offset, count;
    int kind, direction;
};

/* IoRequest */
struct io {
    int64_t file_offset, transferred;
    int tag, owner, pending, status;
};

struct file;
struct file_ops {
    int (*read_iter)(struct file *, struct io *, struct iter *);
    int (*write_iter)(struct file *, struct io *, struct iter *);
    void (*commit)(struct file *);
    int (*poll)(struct file *, int max);
};

/* BlockDeviceFileQueue */
struct file {
    const struct file_ops *ops;
    struct bio_pool *pool;
    struct block_queue *queue;
    int64_t capacity, block_mask, dma_mask, max_bytes, segments, bytes_per_segment;
    volatile int direct; /* may be cleared at any time: looked at for every request (B5) */
    int in_flight, touched;
};

static int file_issue(struct file *file, int operation, struct io *io, struct iter *iter)
{
    struct map *map = iter->map;
    int64_t largest = map->smallest_segment > file->bytes_per_segment ? file->max_bytes : map->smallest_segment * file->segments;
    if (largest > file->max_bytes)
        largest = file->max_bytes;
    largest &= ~file->block_mask;
    if (largest <= file->block_mask)
        largest = file->block_mask + 1;
    int issued = 0;
    while (iter->count > 0) {
        int64_t length = iter->count < largest ? iter->count : largest;
        int bio = bio_take(file->pool, operation, map, iter->offset, length, io->file_offset >> 9);
        if (bio < 0)
            return issued ? OK : EAGAIN_;
        file->pool->bios[bio].owner = io->owner;
        file->pool->bios[bio].cookie = io->tag;
        if (file->queue->ops->submit(file->queue, &bio, 1) != 1) {
            bio_release(file->pool, bio);
            return issued ? OK : EAGAIN_;
        }
        io->pending++;
        issued = 1;
        iter->offset += length;
        iter->count -= length;
        io->file_offset += length;
    }
    return OK;
}

static int file_check(const struct file *file, const struct io *io, const struct iter *iter)
{
    if (!file->direct)
        return EINVAL_;
    int64_t bits = (iter->offset & file->dma_mask) | ((io->file_offset | iter->count) & file->block_mask);
    return bits == 0 && io->file_offset >= 0 ? OK : EINVAL_;
}

static int file_read_iter(struct file *file, struct io *io, struct iter *iter)
{
    int status = file_check(file, io, iter);
    if (status != OK)
        return status;
    int64_t left = file->capacity - io->file_offset;
    if (iter->count > left)
        iter->count = left < 0 ? 0 : left;
    return iter->count == 0 ? OK : file_issue(file, OP_READ, io, iter);
}

static int file_write_iter(struct file *file, struct io *io, struct iter *iter)
{
    int status = file_check(file, io, iter);
    if (status != OK)
        return status;
    int64_t left = file->capacity - io->file_offset;
    if (left <= 0)
        return 28;
    if (iter->count > left)
        iter->count = left;
    return file_issue(file, OP_WRITE, io, iter);
}

static void file_commit(struct file *file)
{
    file->queue->ops->commit(file->queue);
}

static int file_poll(struct file *file, int max)
{
    return file->queue->ops->poll(file->queue, max);
}

/* ---- ring ------------------------------------------------------------------------------------------------------------------------------------ */

enum { FREE, PREPARED, PARKED, PARTIAL, ISSUED, ENDED };

struct registration {
    struct file *file;
    struct map *volatile live; /* the token's published map */
    int64_t size;
    int direction, in_flight, removed;
};

struct request {
    struct io io;
    struct iter iter;
    struct file *file, *ring_file;
    struct registration *registration;
    struct map *map;
    int64_t buffer_offset, length, since;
    uint64_t user_data;
    int slot, operation, state;
};

struct ring_completion {
    uint64_t user_data;
    int64_t bytes;
    int status;
};

struct fifo {
    int *tags;
    int capacity, head, count;
};

struct ring {
    struct owner owner; /* first: what a bio's end leads back to */
    struct bio_pool *pool;
    struct request *requests;
    struct registration **slots;
    struct file *files[2];
    struct fifo free, prepared, partial, ended;
    volatile int active;
    volatile uint8_t visiting;
    int slot_count, file_count, context_slot, owner_number, no_sleep;
    int64_t now;
    int64_t total_requests, completed, failed, bytes;
};

static void fifo_add(struct fifo *fifo, int tag)
{
    int tail = fifo->head + fifo->count++;
    fifo->tags[tail >= fifo->capacity ? tail - fifo->capacity : tail] = tag;
}

static int fifo_take(struct fifo *fifo)
{
    int tag = fifo->tags[fifo->head];
    if (++fifo->head == fifo->capacity)
        fifo->head = 0;
    fifo->count--;
    return tag;
}

/* RequestGate.TryEnter: store, then load; the killer's barrier stands for the fence. */
static int gate_enter(struct map *map, int slot)
{
    if (UNLIKELY((unsigned)slot >= (unsigned)map->slots))
        return 0;
    map->counts[(slot + 1) * 16] = map->counts[(slot + 1) * 16] + 1;
    if (UNLIKELY(map->killed)) {
        map->counts[(slot + 1) * 16] = map->counts[(slot + 1) * 16] - 1;
        return 0;
    }
    return 1;
}

static void gate_exit(struct map *map, int slot)
{
    map->counts[(slot + 1) * 16] = map->counts[(slot + 1) * 16] - 1;
    if (UNLIKELY(map->killed))
        abort(); /* the counterpart settles the drain */
}

static void ring_enter(struct ring *ring)
{
    if (ring->active)
        abort();
    ring->active = 1;
    if (UNLIKELY(ring->visiting))
        abort();
    ring->now = tick_count();
    ring->no_sleep++;
}

static void ring_leave(struct ring *ring)
{
    ring->no_sleep--;
    ring->active = 0;
    if (UNLIKELY(ring->visiting))
        abort();
}

static void ring_end(struct ring *ring, int tag, struct request *request)
{
    if (request->map != NULL) {
        gate_exit(request->map, ring->context_slot);
        request->map = NULL;
    }
    request->state = ENDED;
    request->iter = (struct iter){ 0 };
    request->file = NULL;
    ring->completed++;
    ring->bytes += request->io.transferred;
    if (request->io.status != OK)
        ring->failed++;
    fifo_add(&ring->ended, tag);
    if (request->ring_file != NULL) {
        request->ring_file->in_flight--;
        request->ring_file = NULL;
    }
    if (request->registration != NULL) {
        struct registration *registration = request->registration;
        request->registration = NULL;
        if (--registration->in_flight == 0 && registration->removed)
            abort(); /* the counterpart releases the token */
    }
}

static void ring_bio_ended(struct owner *owner, int bio)
{
    struct ring *ring = (struct ring *)owner;
    struct bio *data = &ring->pool->bios[bio];
    int tag = (int)data->cookie;
    struct request *request = &ring->requests[tag];
    if (data->status == OK)
        request->io.transferred += data->size;
    else if (request->io.status == OK)
        request->io.status = data->status;
    bio_release(ring->pool, bio);
    if (--request->io.pending == 0 && request->state == ISSUED)
        ring_end(ring, tag, request);
}

static void ring_settle(struct ring *ring, int tag, struct request *request, int status)
{
    request->ring_file->touched = 1;
    int error = status != OK && status != EAGAIN_;
    if (error && request->io.status == OK)
        request->io.status = status;
    if (!error && request->io.status == OK && request->iter.count > 0) {
        request->state = PARTIAL;
        fifo_add(&ring->partial, tag);
        return;
    }
    request->state = ISSUED;
    if (request->io.pending == 0)
        ring_end(ring, tag, request);
}

static int ring_give_to_file(struct request *request)
{
    struct file *file = request->ring_file;
    return request->operation == OP_READ ? file->ops->read_iter(file, &request->io, &request->iter)
                                         : file->ops->write_iter(file, &request->io, &request->iter);
}

static int ring_resolve(struct ring *ring, struct request *request)
{
    struct registration *registration = (unsigned)request->slot < (unsigned)ring->slot_count ? ring->slots[request->slot] : NULL;
    if (registration == NULL)
        return EFAULT_;
    if ((uint64_t)request->buffer_offset > (uint64_t)registration->size
        || (uint64_t)request->length > (uint64_t)(registration->size - request->buffer_offset))
        return EFAULT_;
    if (registration->file != request->file)
        return EBADF_;
    if ((registration->direction & (request->operation == OP_WRITE ? TO_DEVICE : FROM_DEVICE)) == 0)
        return EACCES_;
    request->registration = registration;
    request->ring_file = registration->file;
    return OK;
}

static void ring_start(struct ring *ring, int tag)
{
    struct request *request = &ring->requests[tag];
    request->since = ring->now;
    int status = ring_resolve(ring, request);
    if (UNLIKELY(status != OK || request->length == 0)) {
        request->io.status = status;
        ring_end(ring, tag, request);
        return;
    }
    request->ring_file->in_flight++;
    request->registration->in_flight++;
    struct map *map = __atomic_load_n(&request->registration->live, __ATOMIC_ACQUIRE);
    if (UNLIKELY(map == NULL || !gate_enter(map, ring->context_slot)))
        abort(); /* the counterpart makes a new map */
    request->map = map;
    request->iter = (struct iter){ map, request->buffer_offset, request->length, 32, request->operation == OP_WRITE ? TO_DEVICE : FROM_DEVICE };
    ring_settle(ring, tag, request, ring_give_to_file(request));
}

static void ring_commit(struct ring *ring)
{
    for (int i = 0; i < ring->file_count; i++) {
        if (ring->files[i]->touched) {
            ring->files[i]->touched = 0;
            ring->files[i]->ops->commit(ring->files[i]);
        }
    }
}

static NOINLINE int ring_prepare(struct ring *ring, int operation, struct file *file, int slot, int64_t buffer_offset, int64_t length, int64_t file_offset, uint64_t user_data)
{
    if (ring->free.count == 0)
        return 0;
    int tag = fifo_take(&ring->free);
    struct request *request = &ring->requests[tag];
    request->operation = operation;
    request->file = file;
    request->slot = slot;
    request->buffer_offset = buffer_offset;
    request->length = length;
    request->user_data = user_data;
    request->io = (struct io){ .file_offset = file_offset, .tag = tag, .owner = ring->owner_number };
    request->state = PREPARED;
    fifo_add(&ring->prepared, tag);
    return 1;
}

static NOINLINE int ring_submit(struct ring *ring)
{
    int count = ring->prepared.count;
    ring_enter(ring);
    for (int i = 0; i < count; i++)
        ring_start(ring, fifo_take(&ring->prepared));
    ring->total_requests += count;
    ring_commit(ring);
    ring_leave(ring);
    return count;
}

static NOINLINE int ring_reap(struct ring *ring, struct ring_completion *completions, int capacity)
{
    int count = 0;
    ring_enter(ring);
    for (int i = 0; i < ring->file_count; i++) {
        if (ring->files[i]->in_flight != 0)
            ring->files[i]->ops->poll(ring->files[i], 256);
    }
    bio_dispatch(ring->pool);
    for (int i = ring->partial.count; i > 0; i--) {
        int tag = fifo_take(&ring->partial);
        ring_settle(ring, tag, &ring->requests[tag], ring_give_to_file(&ring->requests[tag]));
    }
    ring_commit(ring);
    while (count < capacity && ring->ended.count > 0) {
        int tag = fifo_take(&ring->ended);
        struct request *request = &ring->requests[tag];
        completions[count++] = (struct ring_completion){ request->user_data, request->io.transferred, request->io.status };
        request->state = FREE;
        fifo_add(&ring->free, tag);
    }
    ring_leave(ring);
    return count;
}

/* ---- set up ---------------------------------------------------------------------------------------------------------------------------------- */

static const struct device_ops null_ops = { null_write32, null_advance };
static const struct block_queue_ops nvme_ops = { nvme_submit, nvme_commit, nvme_poll };
static const struct file_ops block_file_ops = { file_read_iter, file_write_iter, file_commit, file_poll };

/* Read at run time: the compiler cannot know which implementation a table holds. */
static const struct device_ops *volatile device_table = &null_ops;
static const struct block_queue_ops *volatile queue_table = &nvme_ops;
static const struct file_ops *volatile file_table = &block_file_ops;

struct world {
    void *memory[32];
    int count, failed;
    int64_t now;
    struct device device;
    struct bio_pool pool;
    struct block_queue queue;
    struct map map;
    struct file file;
    struct registration registration;
    struct ring ring;
};

static void *get(struct world *world, size_t bytes)
{
    size_t rounded = (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
    void *memory = NULL;
    if (world->count == 32 || posix_memalign(&memory, PAGE, rounded) != 0) {
        world->failed = 1;
        return NULL;
    }
    memset(memory, 0, rounded); /* touched: no page fault later */
    world->memory[world->count++] = memory;
    return memory;
}

static void give_back(struct world *world)
{
    for (int i = 0; i < world->count; i++)
        free(world->memory[i]);
    free(world);
}

static void fill_descending(int *tags, int count)
{
    for (int i = 0; i < count; i++)
        tags[i] = count - 1 - i;
}

static struct world *make_device(int depth)
{
    struct world *world = calloc(1, sizeof(*world));
    if (world == NULL)
        return NULL;
    uint32_t entries = (uint32_t)depth + 1;
    int trackers = 1;
    while (trackers < depth)
        trackers *= 2;
    volatile struct command *commands = get(world, entries * sizeof(struct command));
    volatile struct completion *completions = get(world, entries * sizeof(struct completion));
    uint64_t *pages = get(world, BUFFER_PAGES * sizeof(uint64_t));
    world->device = (struct device){ .ops = device_table, .commands = commands, .completions = completions, .entries = entries, .phase = 1,
                                     .blocks = (uint64_t)CAPACITY >> BLOCK_SHIFT };
    world->pool = (struct bio_pool){ .bios = get(world, MAX_DEPTH * sizeof(struct bio)), .maps = get(world, MAX_DEPTH * sizeof(struct map *)),
                                     .free = get(world, MAX_DEPTH * sizeof(int)), .ended = get(world, MAX_DEPTH * sizeof(int)),
                                     .capacity = MAX_DEPTH, .free_count = MAX_DEPTH };
    world->map = (struct map){ .pages = pages, .device = &world->device, .length = (int64_t)BUFFER_PAGES * PAGE,
                               .smallest_segment = (int64_t)BUFFER_PAGES * PAGE, .direction = FROM_DEVICE | TO_DEVICE, .slots = 8,
                               .counts = get(world, 9 * 16 * sizeof(int64_t)) };
    world->queue = (struct block_queue){ .ops = queue_table, .device = &world->device, .pool = &world->pool, .submission = commands,
                                         .completion = completions, .lists = get(world, (size_t)depth * LIST_SLOTS * 8), .lists_address = 1 << 20,
                                         .trackers = get(world, (size_t)trackers * sizeof(struct tracker)), .free_tags = get(world, (size_t)depth * sizeof(int)),
                                         .now = &world->now, .entries = entries, .phase = 1, .free_count = depth, .depth = depth, .state = 1,
                                         .tracker_mask = trackers - 1 };
    if (world->failed) {
        give_back(world);
        return NULL;
    }
    for (int i = 0; i < BUFFER_PAGES; i++)
        pages[i] = ((uint64_t)1 << 32) + ((uint64_t)i << PAGE_SHIFT);
    for (int i = 0; i < trackers; i++)
        world->queue.trackers[i].bio = -1;
    fill_descending(world->queue.free_tags, depth);
    fill_descending(world->pool.free, MAX_DEPTH);
    return world;
}

static int *make_fifo(struct world *world, struct fifo *fifo, int capacity)
{
    fifo->capacity = capacity;
    return fifo->tags = get(world, (size_t)capacity * sizeof(int));
}

static int make_ring(struct world *world, int depth)
{
    struct ring *ring = &world->ring;
    world->file = (struct file){ .ops = file_table, .pool = &world->pool, .queue = &world->queue, .capacity = CAPACITY,
                                 .block_mask = (1 << BLOCK_SHIFT) - 1, .dma_mask = 3, .max_bytes = MAX_BYTES, .segments = LIST_SLOTS, .bytes_per_segment = MAX_BYTES / LIST_SLOTS,
                                 .direct = 1 };
    world->registration = (struct registration){ .file = &world->file, .live = &world->map, .size = world->map.length, .direction = FROM_DEVICE | TO_DEVICE };
    ring->owner.bio_ended = ring_bio_ended;
    ring->pool = &world->pool;
    ring->requests = get(world, (size_t)depth * sizeof(struct request));
    ring->slots = get(world, 64 * sizeof(struct registration *));
    ring->slot_count = 64;
    ring->files[0] = &world->file;
    ring->file_count = 1;
    make_fifo(world, &ring->free, depth);
    make_fifo(world, &ring->prepared, depth);
    make_fifo(world, &ring->partial, depth);
    make_fifo(world, &ring->ended, depth);
    if (world->failed)
        return 0;
    world->pool.owners[0] = &ring->owner;
    world->queue.now = &ring->now;
    ring->slots[0] = &world->registration;
    for (int i = 0; i < depth; i++)
        fifo_add(&ring->free, i);
    return 1;
}

/* ---- loops ----------------------------------------------------------------------------------------------------------------------------------- */

/* What the application of the queue layer does with an ended bio: counts it. */
struct counter {
    struct owner owner;
    struct bio_pool *pool;
    uint64_t sum, errors;
};

static void count_ended(struct owner *owner, int bio)
{
    struct counter *counter = (struct counter *)owner;
    counter->sum += (uint64_t)counter->pool->bios[bio].cookie;
    counter->errors += (uint64_t)counter->pool->bios[bio].status;
}

/*
 * The NVMe queue layer alone: per batch, bios are filled in and submitted, the doorbell rung once, completions polled, bios told to their owner.
 * Answers nanoseconds, or -1 when there is no memory, -2 when a request failed. Checksum: the sum of the numbers of all requests.
 */
EXPORT int64_t nvme_layer(int64_t iterations, int32_t depth, uint64_t *checksum)
{
    if (iterations < 1 || depth < 1 || depth > MAX_DEPTH / 2)
        return -2;
    struct world *world = make_device(depth);
    int *batch = malloc((size_t)depth * sizeof(int));
    if (world == NULL || batch == NULL) {
        free(batch);
        if (world != NULL)
            give_back(world);
        return -1;
    }
    struct counter counter = { { count_ended }, &world->pool, 0, 0 };
    world->pool.owners[0] = &counter.owner;
    const struct block_queue_ops *ops = world->queue.ops;
    for (int i = 0; i < depth; i++)
        batch[i] = bio_take(&world->pool, OP_READ, &world->map, 0, PAGE, 0);
    int64_t page = 0;
    int64_t started = clock_ns();
    for (int64_t done = 0; done < iterations;) {
        int count = iterations - done < depth ? (int)(iterations - done) : depth;
        world->now = tick_count();
        for (int i = 0; i < count; i++) {
            struct bio *bio = &world->pool.bios[batch[i]];
            bio->offset = page << PAGE_SHIFT;
            bio->sector = page << (PAGE_SHIFT - 9);
            bio->cookie = done + i;
            page = (page + 1) & (BUFFER_PAGES - 1);
        }
        if (ops->submit(&world->queue, batch, count) != count)
            break;
        ops->commit(&world->queue);
        for (int ended = 0; ended < count;) {
            ops->poll(&world->queue, 256);
            ended += bio_dispatch(&world->pool);
        }
        done += count;
    }
    int64_t elapsed = clock_ns() - started;
    *checksum = counter.sum;
    int64_t answer = counter.errors == 0 && counter.sum == (uint64_t)iterations * (uint64_t)(iterations - 1) / 2 ? elapsed : -2;
    free(batch);
    give_back(world);
    return answer;
}

/*
 * The whole stack: prepare, submit in batches of the depth, reap, look at every completion. Answers as nvme_layer does.
 */
EXPORT int64_t whole_stack(int64_t iterations, int32_t depth, uint64_t *checksum)
{
    if (iterations < 1 || depth < 1 || depth > MAX_DEPTH / 2)
        return -2;
    struct world *world = make_device(depth);
    if (world == NULL)
        return -1;
    struct ring_completion *completions = get(world, (size_t)depth * sizeof(*completions));
    if (!make_ring(world, depth) || completions == NULL) {
        give_back(world);
        return -1;
    }
    struct ring *ring = &world->ring;
    int64_t page = 0, prepared = 0, ended = 0;
    uint64_t sum = 0, wrong = 0;
    int64_t started = clock_ns();
    while (ended < iterations) {
        while (prepared < iterations
               && ring_prepare(ring, OP_READ, &world->file, 0, page << PAGE_SHIFT, PAGE, page << PAGE_SHIFT, (uint64_t)prepared)) {
            prepared++;
            page = (page + 1) & (BUFFER_PAGES - 1);
        }
        ring_submit(ring);
        int count = ring_reap(ring, completions, depth);
        for (int i = 0; i < count; i++) {
            sum += completions[i].user_data;
            wrong += completions[i].status != OK || completions[i].bytes != PAGE;
        }
        ended += count;
    }
    int64_t elapsed = clock_ns() - started;
    *checksum = sum;
    int64_t answer = wrong == 0 && ring->failed == 0 && sum == (uint64_t)iterations * (uint64_t)(iterations - 1) / 2 ? elapsed : -2;
    give_back(world);
    return answer;
}
