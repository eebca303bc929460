/* The rate of a fit on a CPU: bits of latents and every gradient, without a pass over memory for
 * each operation. codec/rate/context.py says what is computed, codec/cpu/__init__.py how it is
 * called.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __GNUC__
#error "vectors of GCC or Clang are needed; without this module fits go operation by operation"
#endif

#include "../../formats/_sets.h"
#include "_vectors.h"

#define MAX_WIDTH 64
#define OWN 16        /* inputs of the first layer: the window, the parents, a one and the borders */
#define PARENTS 9
#define FLAGS 5
#define INPUTS (OWN + PARENTS + FLAGS)
#define INPUT_ROWS 32 /* with rows of zeros */
#define MASKS (OWN + FLAGS - 1)
#define ABOVE 2       /* rows and columns that the window reaches */
#define BELOW 1
#define BESIDE 2
#define LIMIT 127.0f  /* the network sees latents clipped to -127..127 */
#define LARGEST (4095.0f / 128)
#define LEAST -43.0f  /* scale indices relative to 44 */
#define MOST 19.0f
#define UNIT 22.0f
#define NATS 0.13862943611198906f /* ln 2 / 5 */
#define LOG2_E 1.4426950408889634f
#define FLOOR 9.5367431640625e-7f /* 2^-20 */

static const int WINDOW[OWN][2] = {
    {-2, -2}, {-2, -1}, {-2, 0}, {-2, 1}, {-2, 2}, {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1}, {-1, 2},
    {0, -2}, {0, -1}, {0, 1}, {1, -1}, {1, 0}, {1, 1}};

/* 2^x for x <= 126; 2^-126 for all that is smaller. Relative error 2e-7. NaN stays NaN, here and
 * wherever a value is clamped: a fit that diverges must not look well. */
static inline float power_of_two(float x)
{
    x = x < -126 ? -126 : x;
    int32_t whole = (int32_t)((x == x ? x : 0) + 126.5f) - 126;
    float f = x - whole;
    float found = 1.5403530e-4f;
    found = found * f + 1.3333558e-3f;
    found = found * f + 9.6181291e-3f;
    found = found * f + 5.5504109e-2f;
    found = found * f + 2.4022651e-1f;
    found = found * f + 6.9314718e-1f;
    found = found * f + 1;
    union { int32_t bits; float value; } power = {(whole + 127) << 23};
    return found * power.value;
}

/* log2(x) of a positive x. Absolute error 1e-7 near 1. */
static inline float logarithm_of_two(float x)
{
    union { float value; int32_t bits; } number = {x};
    int32_t whole = (number.bits - 0x3f3504f3) >> 23; /* x / 2^whole is in sqrt(1/2) .. sqrt(2) */
    number.bits -= whole * (1 << 23);
    float t = number.value - 1 + (x - x); /* NaN has lost itself in the bits */
    float s = t / (2 + t), square = s * s;
    float found = 1.0f / 9;
    found = found * square + 1.0f / 7;
    found = found * square + 1.0f / 5;
    found = found * square + 1.0f / 3;
    found = found * square + 1;
    return whole + 2 * LOG2_E * s * found;
}

/* Layers, padded with zeros to `rows` rows or columns; the second one with its residual
 * connection. `*_back`: the transposed matrices. */
typedef struct {
    int width, rows;
    float first[MAX_WIDTH * INPUTS];
    float first_back[INPUT_ROWS * MAX_WIDTH];
    float hidden[MAX_WIDTH * MAX_WIDTH], hidden_back[MAX_WIDTH * MAX_WIDTH];
    float hidden_bias[MAX_WIDTH];
    float out[2 * MAX_WIDTH]; /* (width, 2) */
    float level[2];
    float scale; /* factor on gradients */
} Network;

/* Arrays (rows, CHUNK) of latents that are evaluated together, and what is added up over all. */
typedef struct {
    float x[INPUT_ROWS * CHUNK];
    float a0[MAX_WIDTH * CHUNK], a1[MAX_WIDTH * CHUNK];
    float g0[MAX_WIDTH * CHUNK], g1[MAX_WIDTH * CHUNK];
    float out[2 * CHUNK], go[2 * CHUNK], q[CHUNK];
    float zero[MAX_WIDTH];
    float by_first[MAX_WIDTH * INPUT_ROWS * MAX_LANES];
    float by_hidden[MAX_WIDTH * MAX_WIDTH * MAX_LANES];
    float by_bias[MAX_WIDTH * MAX_LANES];
    float by_out[4 * MAX_WIDTH * MAX_LANES];
    float sums[3 * CHUNK];
} Work;

/* -- planes ------------------------------------------------------------------------------------ */

/* A rectangle of one grid in the vector of all latents. */
typedef struct {
    int64_t start, stride, rows, columns;
} Area;

/* Some rows of an area with zeros around, and the slopes of the same values. */
typedef struct {
    int64_t top, rows, border, stride;
    float *values, *slopes;
} Plane;

static inline float *plane_at(const Plane *plane, float *memory, int64_t row, int64_t column)
{
    return memory + (row - plane->top) * plane->stride + column + plane->border;
}

static int plane_alloc(Plane *plane, const Area *area, int64_t top, int64_t stop, int64_t border,
                       const float *latents)
{
    plane->top = top;
    plane->rows = stop - top;
    plane->border = border;
    plane->stride = area->columns + 2 * border;
    /* A chunk is read to its end, wherever it begins. */
    size_t size = (size_t)(plane->rows * plane->stride + CHUNK);
    plane->values = calloc(size, sizeof(float));
    plane->slopes = calloc(size, sizeof(float));
    if (!plane->values || !plane->slopes)
        return 0;
    for (int64_t row = top > 0 ? top : 0; row < stop && row < area->rows; row++) {
        const float *from = latents + area->start + row * area->stride;
        float *to = plane_at(plane, plane->values, row, 0);
        for (int64_t n = 0; n < area->columns; n++) {
            float value = from[n] < -LIMIT ? -LIMIT : from[n];
            to[n] = value > LIMIT ? LIMIT : value;
        }
    }
    return 1;
}

static void plane_add(const Plane *plane, const Area *area, float *slopes)
{
    for (int64_t row = plane->top > 0 ? plane->top : 0;
         row < plane->top + plane->rows && row < area->rows; row++) {
        const float *from = plane_at(plane, plane->slopes, row, 0);
        float *to = slopes + area->start + row * area->stride;
        for (int64_t n = 0; n < area->columns; n++)
            to[n] += from[n];
    }
}

/* The three rows of parents of one row, every one of them twice, and their slopes. */
typedef struct {
    int64_t stride;
    float *values, *slopes;
} Twice;

static int twice_alloc(Twice *twice, const Area *parents)
{
    twice->stride = 2 * (parents->columns + 2) + CHUNK;
    twice->values = calloc((size_t)(3 * twice->stride), sizeof(float));
    twice->slopes = calloc((size_t)(3 * twice->stride), sizeof(float));
    return twice->values && twice->slopes;
}

static void twice_load(Twice *twice, const Plane *parents, int64_t row)
{
    for (int y = 0; y < 3; y++) {
        const float *from = plane_at(parents, parents->values, row / 2 + y - 1, -1);
        float *to = twice->values + y * twice->stride;
        for (int64_t n = 0; n < parents->stride; n++)
            to[2 * n] = to[2 * n + 1] = from[n];
    }
}

static void twice_store(Twice *twice, const Plane *parents, int64_t row)
{
    for (int y = 0; y < 3; y++) {
        float *from = twice->slopes + y * twice->stride;
        float *to = plane_at(parents, parents->slopes, row / 2 + y - 1, -1);
        for (int64_t n = 0; n < parents->stride; n++)
            to[n] += from[2 * n] + from[2 * n + 1];
        memset(from, 0, (size_t)twice->stride * sizeof(float));
    }
}

/* -- rows -------------------------------------------------------------------------------------- */

typedef struct {
    int set;
    int64_t first, stop; /* rows */
    int64_t side;        /* of blocks */
    const float *masks;  /* (side, MASKS, side): which inputs are known, and the borders */
    const float *latents;
    Area own, parents;
} Job;

#define KERNELS "../codec/cpu/_rate.h"
#include "../../formats/_each_set.h"

static const struct {
    void (*evaluate)(const Job *, const Network *, Work *, const Plane *, const Twice *, int64_t,
                     int64_t, int);
    void (*finish)(const Network *, const Work *, double *);
} INSTRUCTIONS[SETS] = {
#ifdef WIDE_VECTORS
    [AVX512] = {evaluate_avx512, finish_avx512},
    [AVX2] = {evaluate_avx2, finish_avx2},
#endif
    [PLAIN] = {evaluate_plain, finish_plain},
};

static int evaluate_rows(const Job *job, const Network *net, float *slopes, double *sums)
{
    Work *work = calloc(1, sizeof(Work) + 64);
    Plane own = {0}, parents = {0};
    Twice twice = {0};
    int64_t top = job->first / 2 - 1, stop = (job->stop - 1) / 2 + 2;
    int has_parents = job->parents.rows > 0;
    int good = work &&
               plane_alloc(&own, &job->own, job->first - ABOVE, job->stop + BELOW, BESIDE,
                           job->latents) &&
               (!has_parents || (plane_alloc(&parents, &job->parents, top, stop, 1, job->latents) &&
                                 twice_alloc(&twice, &job->parents)));
    if (good) {
        Work *within = aligned(work);
        for (int64_t row = job->first; row < job->stop; row++) {
            if (has_parents)
                twice_load(&twice, &parents, row);
            for (int64_t column = 0; column < job->own.columns; column += CHUNK) {
                int64_t left = job->own.columns - column;
                INSTRUCTIONS[job->set].evaluate(job, net, within, &own,
                                                has_parents ? &twice : NULL, row, column,
                                                (int)(left < CHUNK ? left : CHUNK));
            }
            if (has_parents)
                twice_store(&twice, &parents, row);
        }
        INSTRUCTIONS[job->set].finish(net, within, sums);
        plane_add(&own, &job->own, slopes);
        if (has_parents)
            plane_add(&parents, &job->parents, slopes);
    }
    free(work);
    free(own.values);
    free(own.slopes);
    free(parents.values);
    free(parents.slopes);
    free(twice.values);
    free(twice.slopes);
    return good;
}

static void pack(Network *net, const float *first, const float *parent, const float *bias,
                 const float *hidden, const float *hidden_bias, const float *out)
{
    int width = net->width;
    for (int r = 0; r < width; r++) {
        for (int i = 0; i < INPUTS; i++) {
            float weight = i < OWN             ? first[r * OWN + i]
                           : i < OWN + PARENTS ? (parent ? parent[r * PARENTS + i - OWN] : 0)
                                               : bias[r * FLAGS + i - OWN - PARENTS];
            *grouped(net->first, INPUTS, r, i) = weight;
            if (i < OWN + PARENTS)
                *grouped(net->first_back, width, i, r) = weight;
        }
        for (int i = 0; i < width; i++) {
            float weight = hidden[r * width + i] + (r == i);
            *grouped(net->hidden, width, r, i) = weight;
            *grouped(net->hidden_back, width, i, r) = weight;
        }
        net->hidden_bias[r] = hidden_bias[r];
        net->out[2 * r] = out[r];
        net->out[2 * r + 1] = out[width + r];
    }
}

/* -- Python ------------------------------------------------------------------------------------ */

static int fits(const Area *area, int64_t count, const char *name)
{
    if (area->start >= 0 && area->start < count && area->rows > 0 && area->columns > 0 &&
        area->columns <= count - area->start && area->stride >= area->columns &&
        area->rows - 1 <= (count - area->start - area->columns) / area->stride)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s: not inside the latents", name);
    return 0;
}

PyDoc_STRVAR(rate_rows_doc,
"rate_rows(latents, slopes, sums, first, parent, bias, hidden, hidden_bias, out, masks, own,\n"
"          parents, (first_row, stop_row, side), (mean, scale), factor, set)\n"
"\n"
"Bits of some rows of an area and the gradients of factor * bits, added to `slopes`, like latents,\n"
"and to `sums`, float64: by the first layer (width, 30), by hidden, hidden_bias, out, by the two\n"
"numbers of the level; bits. Areas: start, stride, rows, columns.");

enum { LATENTS, SLOPES, SUMS, FIRST, PARENT, BIAS, HIDDEN, HIDDEN_BIAS, OUT, MASK, BUFFERS };

static PyObject *rate_rows(PyObject *module, PyObject *args)
{
    Py_buffer b[BUFFERS] = {{0}};
    Job job = {0};
    Py_ssize_t own[4], parents[4], first, stop, side;
    float mean, scale, factor;
    PyObject *result = NULL;
    Network *net = NULL;
    (void)module;
    /* No buffer in a nested tuple: Python has no room to remember those that it must release. */
    if (!PyArg_ParseTuple(args, "y*w*w*y*z*y*y*y*y*y*(nnnn)(nnnn)(nnn)(ff)fi:rate_rows", &b[LATENTS],
                          &b[SLOPES], &b[SUMS], &b[FIRST], &b[PARENT], &b[BIAS], &b[HIDDEN],
                          &b[HIDDEN_BIAS], &b[OUT], &b[MASK], &own[0], &own[1], &own[2], &own[3],
                          &parents[0], &parents[1], &parents[2], &parents[3], &first, &stop, &side,
                          &mean, &scale, &factor, &job.set))
        return NULL;
    int64_t count = b[LATENTS].len / 4, width = b[HIDDEN_BIAS].len / 4;
    job.own = (Area){own[0], own[1], own[2], own[3]};
    job.parents = (Area){parents[0], parents[1], parents[2], parents[3]};
    job.first = first;
    job.stop = stop;
    job.side = side;
    if (!between(width, 1, MAX_WIDTH, "width") || !between(side, MAX_LANES, 256, "side") ||
        !between(side % MAX_LANES, 0, 0, "what a multiple of 16 leaves of side") ||
        !between(has_set(job.set), 1, 1, "instructions that this processor has") ||
        !holds(&b[LATENTS], count, 4, "latents") || !holds(&b[SLOPES], count, 4, "slopes") ||
        !holds(&b[SUMS], width * (INPUTS + width + 3) + 3, 8, "sums") ||
        !holds(&b[FIRST], width * OWN, 4, "first") ||
        (b[PARENT].buf && !holds(&b[PARENT], width * PARENTS, 4, "parent")) ||
        !holds(&b[BIAS], width * FLAGS, 4, "bias") ||
        !holds(&b[HIDDEN], width * width, 4, "hidden") || !holds(&b[OUT], 2 * width, 4, "out") ||
        !holds(&b[MASK], side * MASKS * side, 4, "masks") || !fits(&job.own, count, "own") ||
        !between(first, 0, job.own.rows - 1, "first_row") ||
        !between(stop, first + 1, job.own.rows, "stop_row"))
        goto release;
    if (job.parents.rows &&
        (!fits(&job.parents, count, "parents") || job.parents.rows != (job.own.rows + 1) / 2 ||
         job.parents.columns != (job.own.columns + 1) / 2)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "parents: expected half the size of the area");
        goto release;
    }
    net = calloc(1, sizeof *net);
    if (!net) {
        PyErr_NoMemory();
        goto release;
    }
    job.masks = b[MASK].buf;
    job.latents = b[LATENTS].buf;
    net->width = (int)width;
    net->rows = (int)((width + GROUP - 1) / GROUP * GROUP);
    net->level[0] = mean;
    net->level[1] = scale;
    net->scale = factor;
    int good;
    Py_BEGIN_ALLOW_THREADS
    pack(net, b[FIRST].buf, b[PARENT].buf, b[BIAS].buf, b[HIDDEN].buf, b[HIDDEN_BIAS].buf,
         b[OUT].buf);
    good = evaluate_rows(&job, net, b[SLOPES].buf, b[SUMS].buf);
    Py_END_ALLOW_THREADS
    if (good) {
        Py_INCREF(Py_None);
        result = Py_None;
    } else
        PyErr_NoMemory();
release:
    free(net);
    for (int i = 0; i < BUFFERS; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"rate_rows", rate_rows, METH_VARARGS, rate_rows_doc},
    {"instructions", instructions, METH_NOARGS, instructions_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_rate", .m_doc = "The rate of a fit in machine code.",
    .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__rate(void)
{
    return PyModuleDef_Init(&definition);
}
