/* The synthesis on a CPU: samples from interpolated latents, and for a fit the error and every
 * gradient. codec/fit/core_distortion.py says what is computed, codec/cpu/__init__.py how it is
 * called.
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

#define MAX_HIDDEN 64
#define MAX_FEATURES 16 /* 15 grids and a one */
#define FEATURE_ROWS 16 /* with rows of zeros, at most */
#define MAX_CHANNELS 4
#define MAX_RESIDUALS 4
#define MAX_ROWS (MAX_HIDDEN + FEATURE_ROWS)
#define BORDER 2        /* rows and columns around a picture */
#define LEFT MAX_LANES  /* floats before a row's first pixel: its border, aligned */
#define RIGHT (BORDER + 2 * MAX_LANES)
#define SUMMED 64       /* rows whose sums fit floats: larger ones would round small ones away */

/* Weights, padded with zeros. Matrices of several rows lie in groups. */
typedef struct {
    int channels, features, hidden, residuals;
    int rows, feature_rows; /* hidden units and features, rounded up to GROUP */
    float first[MAX_HIDDEN * MAX_FEATURES];
    float first_back[FEATURE_ROWS * (MAX_HIDDEN + 4)]; /* of hidden units and of samples */
    float output[MAX_ROWS * 4];                        /* (hidden units and features, channel) */
    float output_back[MAX_HIDDEN * 4];
    float kernel[MAX_RESIDUALS][9 * MAX_CHANNELS * 4]; /* (input, row, column; output) */
    float kernel_back[MAX_RESIDUALS][9 * MAX_CHANNELS * 4];
    float bias[MAX_RESIDUALS][4];
    float zero[MAX_HIDDEN];
} Synthesis;

/* A call: arrays (rows, CHUNK) of pixels that are computed together, all of them as aligned as the
 * first, sums over all pixels, and the weights. */
typedef struct {
    float features[FEATURE_ROWS * CHUNK], slopes[FEATURE_ROWS * CHUNK];
    float hidden[MAX_HIDDEN * CHUNK], back[(MAX_HIDDEN + 4) * CHUNK];
    float by_first[MAX_HIDDEN * FEATURE_ROWS * MAX_LANES];
    float by_output[(MAX_ROWS + 3) / 4 * 16 * MAX_LANES];
    float by_kernel[(9 * MAX_CHANNELS + 4) / 4 * 16 * MAX_LANES];
    Synthesis net;
} Paint;

#define KERNELS "../codec/cpu/_synthesis.h"
#include "../../formats/_each_set.h"

static const struct {
    int lanes;
    void (*tail)(const Synthesis *, Paint *, const float *const *, int, int, float *const *);
    void (*tail_back)(const Synthesis *, Paint *, const float *const *, int, const float *const *,
                      int);
    void (*tail_finish)(const Synthesis *, const Paint *, double *);
    void (*few_rows)(int, const float *, const float *, const float *const *, int, int,
                     float *const *);
    void (*outers)(int, int, const float *const *, const float *const *, float *, int);
    void (*collect)(int, int, const float *, double *);
    double (*row_error)(const float *, const float *, int64_t, float, float *);
} INSTRUCTIONS[SETS] = {
#define FUNCTIONS(lanes, set) \
    {lanes, tail_##set, tail_back_##set, tail_finish_##set, few_rows_##set, outers_##set, \
     collect_##set, row_error_##set}
#ifdef WIDE_VECTORS
    [AVX512] = FUNCTIONS(16, avx512),
    [AVX2] = FUNCTIONS(8, avx2),
#endif
    [PLAIN] = FUNCTIONS(4, plain),
};

/* -- pictures ---------------------------------------------------------------------------------- */

/* Channels of a picture with a border around, in the caller's memory. */
typedef struct {
    float *memory;
    int64_t height, width, stride, plane;
} Picture;

static int64_t stride_of(int64_t width)
{
    return (LEFT + width + RIGHT + MAX_LANES - 1) / MAX_LANES * MAX_LANES;
}

static Picture picture(float *memory, int64_t height, int64_t width)
{
    int64_t stride = stride_of(width);
    return (Picture){memory, height, width, stride, (height + 2 * BORDER) * stride};
}

/* The first pixel of a row. */
static float *at(const Picture *picture, int channel, int64_t row)
{
    return picture->memory + channel * picture->plane + (row + BORDER) * picture->stride + LEFT;
}

/* Repeat the outermost samples around a picture. */
static void repeat_border(const Picture *picture, int channels)
{
    int64_t height = picture->height, width = picture->width;
    for (int c = 0; c < channels; c++) {
        for (int64_t row = 0; row < height; row++) {
            float *first = at(picture, c, row);
            first[-1] = first[0];
            first[width] = first[width - 1];
            /* What lies behind is multiplied by slopes of zero, but must be finite. */
            memset(first + width + 1, 0,
                   (size_t)(picture->stride - LEFT - width - 1) * sizeof(float));
        }
        size_t size = (size_t)(width + 2) * sizeof(float);
        memcpy(at(picture, c, -1) - 1, at(picture, c, 0) - 1, size);
        memcpy(at(picture, c, height) - 1, at(picture, c, height - 1) - 1, size);
    }
}

/* Zeros around a picture, as far as anything is read. */
static void clear_border(const Picture *picture, int channels)
{
    int64_t height = picture->height, width = picture->width;
    size_t row_size = (size_t)picture->stride * sizeof(float);
    for (int c = 0; c < channels; c++)
        for (int64_t row = -BORDER; row < height + BORDER; row++) {
            float *first = at(picture, c, row);
            if (row < 0 || row >= height)
                memset(first - LEFT, 0, row_size);
            else {
                memset(first - LEFT, 0, LEFT * sizeof(float));
                memset(first + width, 0,
                       (size_t)(picture->stride - LEFT - width) * sizeof(float));
            }
        }
}

static int rounded(int64_t count, int lanes)
{
    return (int)((count + lanes - 1) / lanes * lanes);
}

/* Pointers to the 3x3 inputs of all channels around the pixels of a row from `column` on; mirrored
 * for the way back. */
static void around(const Picture *picture, int channels, int64_t row, int64_t column, int mirrored,
                   const float **inputs)
{
    int sign = mirrored ? -1 : 1;
    for (int c = 0; c < channels; c++)
        for (int y = -1; y <= 1; y++)
            for (int x = -1; x <= 1; x++)
                *inputs++ = at(picture, c, row + sign * y) + column + sign * x;
}

/* -- passes ------------------------------------------------------------------------------------ */

/* From features (features, height * width) to pictures[residuals]; the others are what the 3x3
 * layers see. */
static void forward(int set, const Synthesis *net, Paint *work, const float *features,
                    const Picture *pictures)
{
    int64_t height = pictures->height, width = pictures->width;
    int together = 2 * INSTRUCTIONS[set].lanes;
    for (int64_t row = 0; row < height; row++)
        for (int64_t column = 0; column < width; column += CHUNK) {
            int valid = (int)(width - column < CHUNK ? width - column : CHUNK);
            const float *inputs[MAX_FEATURES];
            float *samples[MAX_CHANNELS];
            for (int i = 0; i < net->features; i++)
                inputs[i] = features + (i * height + row) * width + column;
            for (int c = 0; c < net->channels; c++)
                samples[c] = at(pictures, c, row) + column;
            INSTRUCTIONS[set].tail(net, work, inputs, valid, rounded(valid, together), samples);
        }
    for (int layer = 0; layer < net->residuals; layer++) {
        const Picture *from = pictures + layer, *to = from + 1;
        repeat_border(from, net->channels);
        for (int64_t row = 0; row < height; row++) {
            const float *inputs[9 * MAX_CHANNELS];
            float *samples[MAX_CHANNELS];
            around(from, net->channels, row, 0, 0, inputs);
            for (int c = 0; c < net->channels; c++)
                samples[c] = at(to, c, row);
            INSTRUCTIONS[set].few_rows(net->channels, net->bias[layer], net->kernel[layer], inputs,
                                       9 * net->channels, rounded(width, together), samples);
        }
    }
}

/* Slopes of the mean squared error of clamped samples, straight through the clamp; returns the
 * sum of squares. */
static double error_slopes(int set, const Picture *samples, const float *target, int channels,
                           const Picture *slopes)
{
    int64_t height = samples->height, width = samples->width;
    float factor = 2.0f / ((float)channels * (float)height * (float)width);
    double total = 0;
    for (int c = 0; c < channels; c++)
        for (int64_t row = 0; row < height; row++) {
            const float *wanted = target + (c * height + row) * width;
            total += INSTRUCTIONS[set].row_error(at(samples, c, row), wanted, width, factor,
                                                 at(slopes, c, row));
        }
    clear_border(slopes, channels);
    return total;
}

/* Through a 3x3 layer back: `from` are slopes of its samples, `to` becomes those of what it saw;
 * those of its weights are added to `sums`. */
static void residual_back(int set, const Synthesis *net, Paint *work, int layer,
                          const Picture *seen, const Picture *from, const Picture *to,
                          const float *ones, double *sums)
{
    int64_t height = seen->height, width = seen->width;
    int channels = net->channels, together = 2 * INSTRUCTIONS[set].lanes;
    const float *inputs[9 * MAX_CHANNELS + 1], *slopes[MAX_CHANNELS];
    for (int64_t row = 0; row < height; row++) {
        around(seen, channels, row, 0, 0, inputs);
        inputs[9 * channels] = ones;
        for (int c = 0; c < channels; c++)
            slopes[c] = at(from, c, row);
        INSTRUCTIONS[set].outers(channels, 9 * channels + 1, slopes, inputs, work->by_kernel,
                                 rounded(width, together / 2));
        if (row % SUMMED == SUMMED - 1 || row == height - 1) {
            INSTRUCTIONS[set].collect(channels, 9 * channels + 1, work->by_kernel, sums);
            memset(work->by_kernel, 0, sizeof work->by_kernel);
        }
    }
    for (int64_t row = -1; row <= height; row++) {
        float *found[MAX_CHANNELS];
        around(from, channels, row, -1, 1, inputs);
        for (int c = 0; c < channels; c++)
            found[c] = at(to, c, row) - 1;
        INSTRUCTIONS[set].few_rows(channels, net->zero, net->kernel_back[layer], inputs,
                                   9 * channels, rounded(width + 2, together), found);
    }
    /* What falls on the repeated border belongs to the outermost samples. */
    for (int c = 0; c < channels; c++) {
        for (int64_t row = -1; row <= height; row++) {
            float *first = at(to, c, row);
            first[0] += first[-1];
            first[width - 1] += first[width];
        }
        for (int64_t n = 0; n < width; n++) {
            at(to, c, 0)[n] += at(to, c, -1)[n];
            at(to, c, height - 1)[n] += at(to, c, height)[n];
        }
        for (int64_t row = 0; row < height; row++) {
            const float *slope = at(from, c, row);
            float *sum = at(to, c, row);
            for (int64_t n = 0; n < width; n++)
                sum[n] += slope[n];
        }
    }
    clear_border(to, channels);
}

/* Gradients of features but the last, (features - 1, height * width); those of the weights of the
 * 1x1 layers are added to `sums`. */
static void backward(int set, const Synthesis *net, Paint *work, const float *features,
                     const Picture *slopes, float *out, double *sums)
{
    int64_t height = slopes->height, width = slopes->width;
    int together = 2 * INSTRUCTIONS[set].lanes;
    for (int64_t row = 0; row < height; row++) {
        for (int64_t column = 0; column < width; column += CHUNK) {
            int valid = (int)(width - column < CHUNK ? width - column : CHUNK);
            const float *inputs[MAX_FEATURES], *some[MAX_CHANNELS];
            for (int i = 0; i < net->features; i++)
                inputs[i] = features + (i * height + row) * width + column;
            for (int c = 0; c < net->channels; c++)
                some[c] = at(slopes, c, row) + column;
            INSTRUCTIONS[set].tail_back(net, work, inputs, valid, some, rounded(valid, together));
            for (int i = 0; i < net->features - 1; i++)
                memcpy(out + (i * height + row) * width + column, work->slopes + i * CHUNK,
                       (size_t)valid * sizeof(float));
        }
        if (row % SUMMED == SUMMED - 1 || row == height - 1) {
            INSTRUCTIONS[set].tail_finish(net, work, sums);
            memset(work->by_first, 0, sizeof work->by_first);
            memset(work->by_output, 0, sizeof work->by_output);
        }
    }
}

static void pack(Synthesis *net, const float *first, const float *output, const float *kernels,
                 const float *biases)
{
    int channels = net->channels, features = net->features, hidden = net->hidden;
    for (int r = 0; r < hidden; r++) {
        for (int i = 0; i < features; i++) {
            *grouped(net->first, features, r, i) = first[r * features + i];
            *grouped(net->first_back, net->rows + 4, i, r) = first[r * features + i];
        }
        for (int c = 0; c < channels; c++)
            *grouped(net->output_back, 4, r, c) = output[c * (hidden + features) + r];
    }
    for (int c = 0; c < channels; c++) {
        for (int i = 0; i < hidden + features; i++)
            net->output[i * 4 + c] = output[c * (hidden + features) + i];
        for (int i = 0; i < features; i++)
            *grouped(net->first_back, net->rows + 4, i, net->rows + c) =
                output[c * (hidden + features) + hidden + i];
    }
    for (int layer = 0; layer < net->residuals; layer++)
        for (int c = 0; c < channels; c++) {
            net->bias[layer][c] = *biases++;
            for (int i = 0; i < channels; i++)
                for (int tap = 0; tap < 9; tap++) {
                    float weight = *kernels++;
                    net->kernel_back[layer][(c * 9 + tap) * 4 + i] = weight;
                    net->kernel[layer][(i * 9 + tap) * 4 + c] = weight + (i == c && tap == 4);
                }
        }
}

/* -- Python ------------------------------------------------------------------------------------ */

enum { FEATURES, FIRST, OUTPUT, KERNELS_, BIASES, SCRATCH, BUFFERS };

/* Checks what both functions share and lays out pictures in the scratch memory, one for each 3x3
 * layer and `more`; after them there is room for a row. The call, its weights packed, in *memory;
 * or NULL with an exception. */
static Paint *prepared(const Py_buffer *b, const int *sizes, int64_t height, int64_t width,
                       int more, int set, Picture *pictures, void **memory)
{
    static const char *const names[4] = {"channels", "features", "hidden", "residuals"};
    static const int least[4] = {1, 2, 1, 0};
    static const int most[4] = {MAX_CHANNELS, MAX_FEATURES, MAX_HIDDEN, MAX_RESIDUALS};
    for (int i = 0; i < 4; i++)
        if (!between(sizes[i], least[i], most[i], names[i]))
            return NULL;
    int channels = sizes[0], features = sizes[1], hidden = sizes[2], residuals = sizes[3];
    if (!between(height, 1, 1 << 28, "height") || !between(width, 1, (1 << 28) / height, "width") ||
        !between(has_set(set), 1, 1, "instructions that this processor has") ||
        !holds(&b[FEATURES], features * height * width, 4, "features") ||
        !holds(&b[FIRST], hidden * features, 4, "first") ||
        !holds(&b[OUTPUT], channels * (hidden + features), 4, "output") ||
        !holds(&b[KERNELS_], residuals * channels * channels * 9, 4, "kernels") ||
        !holds(&b[BIASES], residuals * channels, 4, "biases"))
        return NULL;
    int64_t stride = stride_of(width);
    if (!holds(&b[SCRATCH],
               (residuals + more) * channels * (height + 2 * BORDER) * stride + stride + MAX_LANES, 4, "scratch"))
        return NULL;
    *memory = calloc(1, sizeof(Paint) + 64);
    if (!*memory) {
        PyErr_NoMemory();
        return NULL;
    }
    Paint *work = aligned(*memory);
    Synthesis *net = &work->net;
    net->channels = channels;
    net->features = features;
    net->hidden = hidden;
    net->residuals = residuals;
    net->rows = (hidden + GROUP - 1) / GROUP * GROUP;
    net->feature_rows = (features + GROUP - 1) / GROUP * GROUP;
    pack(net, b[FIRST].buf, b[OUTPUT].buf, b[KERNELS_].buf, b[BIASES].buf);
    float *scratch = aligned(b[SCRATCH].buf);
    for (int i = 0; i < residuals + more; i++, scratch += channels * pictures->plane)
        pictures[i] = picture(scratch, height, width);
    return work;
}

PyDoc_STRVAR(scratch_size_doc,
"scratch_size(channels, height, width, pictures)\n"
"\n"
"Floats that the functions need besides: for residuals + 1 pictures, and 2 more for slopes.");

static PyObject *scratch_size(PyObject *module, PyObject *args)
{
    Py_ssize_t channels, height, width, pictures;
    (void)module;
    if (!PyArg_ParseTuple(args, "nnnn:scratch_size", &channels, &height, &width, &pictures))
        return NULL;
    int64_t stride = stride_of(width);
    return PyLong_FromLongLong(pictures * channels * (height + 2 * BORDER) * stride + stride +
                               MAX_LANES);
}

PyDoc_STRVAR(samples_doc,
"samples(features, first, output, kernels, biases, scratch, out,\n"
"        (channels, features, hidden, residuals), (height, width), set)\n"
"\n"
"Samples (channels, height, width), not clamped, with what lies around repeating the outermost\n"
"ones. Features: (features, height, width), the last one ones; first: (hidden, features); output:\n"
"(channels, hidden + features); kernels: (residuals, channels, channels, 3, 3).");

static PyObject *samples(PyObject *module, PyObject *args)
{
    Py_buffer b[BUFFERS + 1] = {{0}};
    int sizes[4], set;
    Py_ssize_t height, width;
    PyObject *result = NULL;
    void *memory = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*w*(iiii)(nn)i:samples", &b[FEATURES], &b[FIRST],
                          &b[OUTPUT], &b[KERNELS_], &b[BIASES], &b[SCRATCH], &b[BUFFERS],
                          &sizes[0], &sizes[1], &sizes[2], &sizes[3], &height, &width, &set))
        return NULL;
    Picture pictures[MAX_RESIDUALS + 1];
    Paint *work = prepared(b, sizes, height, width, 1, set, pictures, &memory);
    if (!work || !holds(&b[BUFFERS], sizes[0] * height * width, 4, "out"))
        goto release;
    Py_BEGIN_ALLOW_THREADS
    forward(set, &work->net, work, b[FEATURES].buf, pictures);
    for (int c = 0; c < sizes[0]; c++)
        for (int64_t row = 0; row < height; row++)
            memcpy((float *)b[BUFFERS].buf + (c * height + row) * width,
                   at(&pictures[sizes[3]], c, row), (size_t)width * sizeof(float));
    Py_END_ALLOW_THREADS
    Py_INCREF(Py_None);
    result = Py_None;
release:
    free(memory);
    for (int i = 0; i <= BUFFERS; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

PyDoc_STRVAR(error_doc,
"error(features, first, output, kernels, biases, scratch, target, slopes, sums,\n"
"      (channels, features, hidden, residuals), (height, width), set)\n"
"\n"
"The sum of squared errors of clamped samples. Gradients of their mean, straight through the clamp,\n"
"become `slopes`, (features - 1, height, width), and `sums`, float64: by first, by output, and for\n"
"each 3x3 layer (channels, 9 channels + 1), the last column by its bias.");

static PyObject *error(PyObject *module, PyObject *args)
{
    Py_buffer b[BUFFERS + 3] = {{0}};
    int sizes[4], set;
    Py_ssize_t height, width;
    PyObject *result = NULL;
    void *memory = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*y*w*w*(iiii)(nn)i:error", &b[FEATURES], &b[FIRST],
                          &b[OUTPUT], &b[KERNELS_], &b[BIASES], &b[SCRATCH], &b[BUFFERS],
                          &b[BUFFERS + 1], &b[BUFFERS + 2], &sizes[0], &sizes[1], &sizes[2],
                          &sizes[3], &height, &width, &set))
        return NULL;
    int channels = sizes[0], features = sizes[1], hidden = sizes[2], residuals = sizes[3];
    Picture pictures[MAX_RESIDUALS + 3];
    Paint *work = prepared(b, sizes, height, width, 3, set, pictures, &memory);
    if (!work || !holds(&b[BUFFERS], channels * height * width, 4, "target") ||
        !holds(&b[BUFFERS + 1], (features - 1) * height * width, 4, "slopes") ||
        !holds(&b[BUFFERS + 2],
               hidden * features + channels * (hidden + features) +
                   residuals * channels * (9 * channels + 1),
               8, "sums"))
        goto release;
    Picture *from = pictures + residuals + 1, *to = from + 1;
    float *ones = to->memory + channels * to->plane;
    const Synthesis *net = &work->net;
    double total, *sums = b[BUFFERS + 2].buf;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t n = 0; n < stride_of(width); n++)
        ones[n] = 1;
    forward(set, net, work, b[FEATURES].buf, pictures);
    total = error_slopes(set, pictures + residuals, b[BUFFERS].buf, channels, from);
    memset(sums, 0, (size_t)b[BUFFERS + 2].len);
    double *by_layer = sums + hidden * features + channels * (hidden + features);
    for (int layer = residuals - 1; layer >= 0; layer--) {
        residual_back(set, net, work, layer, pictures + layer, from, to, ones,
                      by_layer + layer * channels * (9 * channels + 1));
        Picture *other = from;
        from = to;
        to = other;
    }
    backward(set, net, work, b[FEATURES].buf, from, b[BUFFERS + 1].buf, sums);
    Py_END_ALLOW_THREADS
    result = PyFloat_FromDouble(total);
release:
    free(memory);
    for (int i = 0; i < BUFFERS + 3; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"error", error, METH_VARARGS, error_doc},
    {"samples", samples, METH_VARARGS, samples_doc},
    {"scratch_size", scratch_size, METH_VARARGS, scratch_size_doc},
    {"instructions", instructions, METH_NOARGS, instructions_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_synthesis",
    .m_doc = "Samples and their error in machine code.", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__synthesis(void)
{
    return PyModuleDef_Init(&definition);
}
