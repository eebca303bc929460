/* Interpolation on a CPU: samples from the latents of a grid, and the way back of both axes.
 *
 * Sample n of an axis is the sum over latents j of kernel[n - stride j - offset], with the
 * outermost latents repeated beyond the edges (codec/network/kernels.py). A row of latents becomes
 * a row of samples ("across"), a few of these at a time are kept in a ring, and each row of the
 * picture is a sum of those that it sees ("down"). So nothing but the result is as large as the
 * picture, and most of the work goes along rows, whatever the stride.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __GNUC__
#error "vectors of GCC or Clang are needed; without this module torch's operations do its work"
#endif

#include "../../formats/_sets.h"
#include "_vectors.h"

#define MAX_STRIDE 512
#define MAX_REACH 15       /* latents that a sample sees */
#define RING 16            /* rows that are kept: a power of two, more than a sample sees */
#define TOGETHER 4         /* rows of slopes that are read at the same time */
#define SUMMED (1 << 16)   /* samples whose sums fit floats: larger ones would round small ones away */
#define ROUND (4 * MAX_LANES)

/* The rows of samples of a call.
 *
 * Places are relative to a multiple of the period at or before the first sample, plus the kernel's
 * offset: so latent j begins at a multiple of the stride. */
typedef struct {
    int reach, stride, period; /* period: of `taps`, the stride or the widest vector */
    int64_t first;             /* latent at place 0 */
    int64_t shift;             /* place of the first sample */
    int64_t length;            /* of a row, up to the end of the samples and rounded */
    int64_t before;            /* places before a row, and behind, that its latents reach */
    float *taps;               /* (reach, 2 * period): tap k of a sample at that place, twice */
} Line;

#define KERNELS "../codec/cpu/_interpolation.h"
#include "../../formats/_each_set.h"

static const struct {
    void (*across)(const Line *, const float *, float *);
    void (*down)(int, const float *, const float *const *, int64_t, float *);
    void (*up)(int, const float *, const float *const *, const float *, float *, int64_t, float *);
    void (*across_back)(const Line *, const float *, const float *, float *, float *);
} INSTRUCTIONS[SETS] = {
#define FUNCTIONS(set) {across_##set, down_##set, up_##set, across_back_##set}
#ifdef WIDE_VECTORS
    [AVX512] = FUNCTIONS(avx512),
    [AVX2] = FUNCTIONS(avx2),
#endif
    [PLAIN] = FUNCTIONS(plain),
};

/* A grid, its kernel and the samples asked for. */
typedef struct {
    const float *latents, *kernel;
    int64_t height, width; /* of the grid */
    int taps;
    int64_t offset;
    int64_t top, rows, left, columns; /* of the samples */
    Line line;
} Work;

static int64_t rounded(int64_t count, int64_t to)
{
    return (count + to - 1) / to * to;
}

static int64_t clamped(int64_t number, int64_t count)
{
    return number < 0 ? 0 : number < count ? number : count - 1;
}

/* Floats of a row with what lies around it. */
static int64_t row_size(const Line *line)
{
    return line->length + 2 * line->before;
}

/* What `work` holds besides; `taps` must have room for (reach, 2 * period). */
static void lay_out(Work *work, int stride)
{
    Line *line = &work->line;
    line->stride = stride;
    line->reach = (work->taps + stride - 1) / stride;
    line->period = stride > MAX_LANES ? stride : MAX_LANES;
    int64_t place = work->left - work->offset;
    line->shift = place % line->period;
    line->first = (place - line->shift) / stride;
    line->length = rounded(line->shift + work->columns, stride > ROUND ? stride : ROUND);
    line->before = rounded((int64_t)stride * (line->reach - 1), MAX_LANES);
}

static void fill_taps(const Work *work)
{
    const Line *line = &work->line;
    for (int k = 0; k < line->reach; k++)
        for (int n = 0; n < 2 * line->period; n++) {
            int tap = n % line->stride + k * line->stride;
            line->taps[2 * k * line->period + n] = tap < work->taps ? work->kernel[tap] : 0;
        }
}

/* The latents, first to stop, that the places of a row and `before` it belong to; inner to outer are
 * those of the grid. */
typedef struct {
    int64_t first, stop, inner, outer;
} Reached;

static Reached reached(const Work *work)
{
    const Line *line = &work->line;
    int64_t first = line->first - line->before / line->stride;
    int64_t stop = first + (line->length + line->before) / line->stride;
    int64_t inner = first < 0 ? 0 : first, outer = stop < work->width ? stop : work->width;
    return (Reached){first, stop, inner, outer < inner ? inner : outer};
}

/* `stride` is a constant wherever the next two are inlined. */
static inline __attribute__((always_inline)) void repeat(int stride, const float *from,
                                                         int64_t count, float *restrict to)
{
    for (int64_t j = 0; j < count; j++)
        for (int n = 0; n < stride; n++)
            to[j * stride + n] = from[j];
}

static inline __attribute__((always_inline)) void add_up(int stride, const float *from,
                                                         int64_t count, float *restrict to)
{
    for (int64_t j = 0; j < count; j++) {
        float sum = 0;
        for (int n = 0; n < stride; n++)
            sum += from[j * stride + n];
        to[j] += sum;
    }
}

#define BY_STRIDE(function, stride, ...) \
    switch (stride) { \
    case 1: function(1, __VA_ARGS__); break; \
    case 2: function(2, __VA_ARGS__); break; \
    case 4: function(4, __VA_ARGS__); break; \
    case 8: function(8, __VA_ARGS__); break; \
    default: function(stride, __VA_ARGS__); \
    }

/* A row of latents, each as many times as it has samples of its own, from `before` on. */
static void spread_row(const Work *work, int64_t row, float *to)
{
    const Line *line = &work->line;
    const float *from = work->latents + row * work->width;
    Reached all = reached(work);
    to -= line->before;
    for (int64_t n = 0; n < (all.inner - all.first) * line->stride; n++)
        *to++ = from[0];
    BY_STRIDE(repeat, line->stride, from + all.inner, all.outer - all.inner, to)
    to += (all.outer - all.inner) * line->stride;
    for (int64_t n = 0; n < (all.stop - all.outer) * line->stride; n++)
        *to++ = from[work->width - 1];
}

/* The way back of `spread_row`. */
static void gather_row(const Work *work, int64_t row, const float *from, float *grad)
{
    const Line *line = &work->line;
    float *to = grad + row * work->width;
    Reached all = reached(work);
    float before = 0, behind = 0;
    from -= line->before;
    for (int64_t n = 0; n < (all.inner - all.first) * line->stride; n++)
        before += *from++;
    BY_STRIDE(add_up, line->stride, from, all.outer - all.inner, to + all.inner)
    from += (all.outer - all.inner) * line->stride;
    for (int64_t n = 0; n < (all.stop - all.outer) * line->stride; n++)
        behind += *from++;
    to[0] += before;
    to[work->width - 1] += behind;
}

/* Rows of samples of one axis, of the last latents that were asked for. */
typedef struct {
    float *spread; /* place 0 */
    float *rows;   /* RING of them, before included */
    int64_t next;  /* first row that is not there */
    int set;
} Ring;

static float *ring_row(const Work *work, float *rows, int64_t row)
{
    return rows + (row % RING) * row_size(&work->line) + work->line.before;
}

/* See to it that the rows up to `last` are there. */
static void fill_ring(const Work *work, Ring *ring, int64_t last)
{
    for (; ring->next <= last; ring->next++) {
        spread_row(work, ring->next, ring->spread);
        INSTRUCTIONS[ring->set].across(&work->line, ring->spread,
                                       ring_row(work, ring->rows, ring->next));
    }
}

/* The rows of the grid that a row of samples sees, nearest first, and with what weights. */
static void seen_by(const Work *work, int64_t row, int64_t *rows, float *weights)
{
    int64_t place = work->top + row - work->offset;
    int stride = work->line.stride;
    for (int k = 0; k < work->line.reach; k++) {
        int64_t tap = place % stride + k * stride;
        rows[k] = clamped(place / stride - k, work->height);
        weights[k] = tap < work->taps ? work->kernel[tap] : 0;
    }
}

static void expand_rows(const Work *work, Ring *ring, float *temporary, float *out)
{
    int reach = work->line.reach;
    for (int64_t row = 0; row < work->rows; row++) {
        int64_t seen[MAX_REACH];
        float weights[MAX_REACH];
        const float *lines[MAX_REACH];
        seen_by(work, row, seen, weights);
        if (row == 0)
            ring->next = seen[reach - 1];
        fill_ring(work, ring, seen[0]);
        for (int k = 0; k < reach; k++)
            lines[k] = ring_row(work, ring->rows, seen[k]);
        INSTRUCTIONS[ring->set].down(reach, weights, lines, work->line.length, temporary);
        memcpy(out + row * work->columns, temporary + work->line.shift,
               (size_t)work->columns * sizeof(float));
    }
}

/* Where gradients are collected. */
typedef struct {
    float *rows;      /* slopes by the rows of the ring */
    float *back;      /* by repeated latents; place 0 */
    float *by_taps;   /* (reach, period) */
    float *lines;     /* TOGETHER rows of the picture's slopes */
    float *grad;      /* by latents */
    double *by_kernel;
    int64_t done;     /* rows of the grid before this one are */
    int64_t summed;   /* samples since `by_taps` was collected */
} Back;

/* Add what the rows since the last time have in `by_taps`. */
static void collect_taps(const Work *work, Back *back)
{
    const Line *line = &work->line;
    for (int k = 0; k < line->reach; k++)
        for (int n = 0; n < line->period; n++) {
            int tap = n % line->stride + k * line->stride;
            if (tap < work->taps)
                back->by_kernel[tap] += back->by_taps[k * line->period + n];
        }
    memset(back->by_taps, 0, (size_t)(line->reach * line->period) * sizeof(float));
    back->summed = 0;
}

/* From the slopes of rows of samples before `stop` to those of latents. */
static void finish_rows(const Work *work, const Ring *ring, Back *back, int64_t stop)
{
    const Line *line = &work->line;
    for (; back->done < stop; back->done++) {
        float *slopes = ring_row(work, back->rows, back->done);
        spread_row(work, back->done, ring->spread);
        INSTRUCTIONS[ring->set].across_back(line, ring->spread, slopes, back->back, back->by_taps);
        memset(slopes, 0, (size_t)line->length * sizeof(float));
        gather_row(work, back->done, back->back, back->grad);
        back->summed += line->length;
        if (back->summed >= SUMMED)
            collect_taps(work, back);
    }
}

static void contract_rows(const Work *work, Ring *ring, Back *back, const float *slopes)
{
    const Line *line = &work->line;
    int reach = line->reach;
    int64_t seen[MAX_REACH];
    for (int64_t row = 0; row < work->rows;) {
        /* Rows that see the same ones. */
        float weights[TOGETHER][MAX_REACH];
        const float *lines[TOGETHER];
        int64_t place = row - work->offset;
        int together = 0;
        for (; together < TOGETHER && row + together < work->rows &&
               (place + together) / line->stride == place / line->stride; together++) {
            float *to = back->lines + together * line->length;
            seen_by(work, row + together, seen, weights[together]);
            memcpy(to + line->shift, slopes + (row + together) * work->columns,
                   (size_t)work->columns * sizeof(float));
            lines[together] = to;
        }
        if (row == 0)
            ring->next = back->done = seen[reach - 1];
        fill_ring(work, ring, seen[0]);
        finish_rows(work, ring, back, seen[reach - 1]);
        for (int k = 0; k < reach; k++) {
            float some[TOGETHER], products[TOGETHER];
            for (int r = 0; r < together; r++)
                some[r] = weights[r][k];
            INSTRUCTIONS[ring->set].up(together, some, lines, ring_row(work, ring->rows, seen[k]),
                                       ring_row(work, back->rows, seen[k]), line->length, products);
            for (int r = 0; r < together; r++) {
                int64_t tap = (place + r) % line->stride + k * line->stride;
                if (tap < work->taps)
                    back->by_kernel[tap] += products[r];
            }
        }
        row += together;
    }
    finish_rows(work, ring, back, ring->next);
    collect_taps(work, back);
}

/* -- Python ------------------------------------------------------------------------------------ */

/* Checks sizes and fills `work`; or 0 with an exception. */
static int prepared(Work *work, const Py_buffer *latents, const Py_buffer *kernel, int stride,
                    Py_ssize_t offset, int set)
{
    int64_t taps = kernel->len / 4;
    if (!between(stride, 1, MAX_STRIDE, "stride") ||
        !between(stride & (stride - 1), 0, 0, "bits of a power of two") ||
        !between(taps, 1, (int64_t)MAX_REACH * stride, "taps") ||
        !between(offset, -(int64_t)MAX_REACH * stride, 0, "offset") ||
        !between(work->height, 1, 1 << 28, "height") ||
        !between(work->width, 1, (1 << 28) / work->height, "width") ||
        !between(work->rows, 1, 1 << 28, "rows") ||
        !between(work->columns, 1, (1 << 28) / work->rows, "columns") ||
        !between(work->top, 0, 1 << 28, "top") || !between(work->left, 0, 1 << 28, "left") ||
        !between(has_set(set), 1, 1, "instructions that this processor has") ||
        !holds(latents, work->height * work->width, 4, "latents") ||
        !holds(kernel, taps, 4, "kernel"))
        return 0;
    work->latents = latents->buf;
    work->kernel = kernel->buf;
    work->taps = (int)taps;
    work->offset = offset;
    lay_out(work, stride);
    return 1;
}

/* Zeros for these numbers of floats, which become pointers; each begins where vectors may. */
static void *zeros(int count, const int64_t *sizes, float **pointers)
{
    int64_t total = MAX_LANES;
    for (int i = 0; i < count; i++)
        total += rounded(sizes[i], MAX_LANES);
    void *memory = calloc((size_t)total, sizeof(float));
    if (!memory) {
        PyErr_NoMemory();
        return NULL;
    }
    float *next = aligned(memory);
    for (int i = 0; i < count; i++) {
        pointers[i] = next;
        next += rounded(sizes[i], MAX_LANES);
    }
    return memory;
}

PyDoc_STRVAR(expand_doc,
"expand(latents, kernel, out, (height, width), (stride, offset), (top, rows, left, columns), set)\n"
"\n"
"Samples of a rectangle from a grid (height, width); out: (rows, columns). All float32.");

static PyObject *expand(PyObject *module, PyObject *args)
{
    Py_buffer b[3] = {{0}};
    Py_ssize_t height, width, offset, top, rows, left, columns;
    int stride, set;
    PyObject *result = NULL;
    void *memory = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*(nn)(in)(nnnn)i:expand", &b[0], &b[1], &b[2], &height,
                          &width, &stride, &offset, &top, &rows, &left, &columns, &set))
        return NULL;
    Work work = {.height = height, .width = width, .top = top, .rows = rows, .left = left,
                 .columns = columns};
    if (!prepared(&work, &b[0], &b[1], stride, offset, set) ||
        !holds(&b[2], work.rows * work.columns, 4, "out"))
        goto release;
    Line *line = &work.line;
    float *parts[4];
    memory = zeros(4, (int64_t[]){2 * line->reach * line->period, row_size(line),
                                  RING * row_size(line), line->length}, parts);
    if (!memory)
        goto release;
    Py_BEGIN_ALLOW_THREADS
    line->taps = parts[0];
    fill_taps(&work);
    Ring ring = {parts[1] + line->before, parts[2], 0, set};
    expand_rows(&work, &ring, parts[3], b[2].buf);
    Py_END_ALLOW_THREADS
    Py_INCREF(Py_None);
    result = Py_None;
release:
    free(memory);
    for (int i = 0; i < 3; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

PyDoc_STRVAR(contract_doc,
"contract(latents, kernel, slopes, grad, by_kernel, (height, width), (stride, offset),\n"
"         (rows, columns), set)\n"
"\n"
"The way back of `expand` of a whole picture: from slopes (rows, columns) by its samples to `grad`,\n"
"by latents, and `by_kernel`, float64, which are added to.");

static PyObject *contract(PyObject *module, PyObject *args)
{
    Py_buffer b[5] = {{0}};
    Py_ssize_t height, width, offset, rows, columns;
    int stride, set;
    PyObject *result = NULL;
    void *memory = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*w*w*(nn)(in)(nn)i:contract", &b[0], &b[1], &b[2], &b[3],
                          &b[4], &height, &width, &stride, &offset, &rows, &columns, &set))
        return NULL;
    Work work = {.height = height, .width = width, .rows = rows, .columns = columns};
    if (!prepared(&work, &b[0], &b[1], stride, offset, set) ||
        !holds(&b[2], work.rows * work.columns, 4, "slopes") ||
        !holds(&b[3], work.height * work.width, 4, "grad") ||
        !holds(&b[4], work.taps, 8, "by_kernel"))
        goto release;
    Line *line = &work.line;
    float *parts[7];
    memory = zeros(7, (int64_t[]){2 * line->reach * line->period, row_size(line),
                                  RING * row_size(line), RING * row_size(line), row_size(line),
                                  line->reach * line->period, TOGETHER * line->length}, parts);
    if (!memory)
        goto release;
    Py_BEGIN_ALLOW_THREADS
    line->taps = parts[0];
    fill_taps(&work);
    Ring ring = {parts[1] + line->before, parts[2], 0, set};
    Back back = {parts[3], parts[4] + line->before, parts[5], parts[6], b[3].buf, b[4].buf, 0, 0};
    contract_rows(&work, &ring, &back, b[2].buf);
    Py_END_ALLOW_THREADS
    Py_INCREF(Py_None);
    result = Py_None;
release:
    free(memory);
    for (int i = 0; i < 5; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"contract", contract, METH_VARARGS, contract_doc},
    {"expand", expand, METH_VARARGS, expand_doc},
    {"instructions", instructions, METH_NOARGS, instructions_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_interpolation",
    .m_doc = "Latents to samples and back in machine code.", .m_methods = methods,
    .m_slots = slots};

PyMODINIT_FUNC PyInit__interpolation(void)
{
    return PyModuleDef_Init(&definition);
}
