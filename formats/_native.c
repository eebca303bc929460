/* Decoding the latents of a grid: the same integers as formats/latents.py, in machine code.
 *
 * One function, decode_grid. It walks through the passes of SPEC.md, section 9.2, predicts all
 * positions of a pass (9.3, _network.h) and decodes their residuals (9.4). It takes untrusted
 * streams: every index it computes is bounded by the grid's shape or by the size of a table, and
 * words past a stream's end are 0. Buffers are checked against the shapes before anything is read.
 *
 * Positions of a pass are a row v of a block and a block k. What they see is stored by pass: the
 * value at row v and column u of block k at [u + 2 v][v][k]. So a pass is one run of memory, and
 * its neighbours (y, x) of all its positions are another one, from [t + x + 2 y][v + y][k] on.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __GNUC__
#error "vectors of GCC or Clang are needed; without this module numpy decodes, to the same integers"
#endif

#include "_sets.h"

#define LIMIT 127        /* the network sees latents clipped to -127..127 */
#define TOP 4095         /* largest activation */
#define ACTIVATION_BITS 7
#define MEAN_LIMIT 32736 /* largest mean, in 1/32 */
#define MAX_WIDTH 64
#define FAR 8            /* residuals up to FAR are one symbol */
#define SYMBOLS (2 * FAR + 1)
#define SCALES 64
#define KEYS (SCALES * 32) /* a scale and the last five bits of a mean + 16 */
#define PADDING 32       /* positions that are computed beyond the end of a pass, at most */

/* Inputs of the first layer, in the order of its columns. Inside a block the last ones are always
 * zero: they need a neighbouring block, or tell that the border is there. */
static const int OWN[][2] = {
    {-2, -2}, {-2, -1}, {-2, 0}, {-2, 1}, {-2, 2}, {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1},
    {0, -2}, {0, -1}};
static const int ACROSS[][2] = {{-1, 2}, {0, 1}, {1, -1}, {1, 0}, {1, 1}};
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define PARENTS 9
#define BORDERS 4        /* left column, top row, right column, bottom row */
#define MAX_INPUTS (COUNT(OWN) + PARENTS + COUNT(ACROSS) + BORDERS)

/* One level's network, in integers: weights and biases of SPEC.md, 9.3. */
typedef struct {
    int width, rows; /* units; rows is the next multiple of GROUP */
    int inputs;      /* of the first layer */
    const float *first;       /* groups of rows */
    const float *bias;        /* rows */
    const float *hidden;      /* groups of rows, width inputs, with the residual connection */
    const float *hidden_bias; /* rows */
    const float *out;         /* (width, 2) */
    float level[2];           /* times 4 */
    int32_t least;            /* scale index */
} Network;

typedef void (*Predict)(const Network *, int, const int8_t *const *, int64_t, int32_t *,
                        int32_t *);

#ifdef WIDE_VECTORS
#include <immintrin.h>
#endif
#define KERNELS "_network.h"
#include "_each_set.h"

static const struct {
    Predict predict;
    int positions;
} INSTRUCTIONS[SETS] = {
#ifdef WIDE_VECTORS
    [AVX512] = {predict_avx512, 32},
    [AVX2] = {predict_avx2, 16},
#endif
    [PLAIN] = {predict_plain, 8},
};

/* -- range decoder (SPEC.md, section 6) ------------------------------------------------------- */

typedef struct {
    uint64_t low, range, point;
    uint64_t steps;   /* words that were shifted in after the first two */
    uint64_t symbols;
} Coder;

typedef struct {
    Coder state;
    const uint32_t *words;
    uint64_t count;
} Stream;

static uint32_t word(const Stream *stream, uint64_t index)
{
    return index < stream->count ? stream->words[index] : 0;
}

/* Take a symbol whose frequencies begin at `left` and end at `right`. */
static inline void take(Stream *stream, uint64_t unit, uint32_t left, uint32_t right)
{
    Coder *coder = &stream->state;
    coder->low += unit * left;
    coder->range = unit * (right - left);
    coder->symbols++;
    if (coder->range >> 32 == 0) {
        coder->low <<= 32;
        coder->range <<= 32;
        coder->point = coder->point << 32 | word(stream, coder->steps + 2);
        coder->steps++;
    }
}

/* The next symbol, 0..SYMBOLS - 1, or -1 if there is none. `ends`: SYMBOLS + 1 sums of
 * frequencies, from 0 to 2^24. */
static inline int near_symbol(Stream *stream, const int32_t *ends)
{
    uint64_t unit = stream->state.range >> 24;
    if (!unit)
        return -1; /* only tables with symbols of no frequency lead here */
    uint64_t quantile = (stream->state.point - stream->state.low) / unit;
    if (quantile >> 24)
        return -1;
    int32_t q = (int32_t)quantile;
    int symbol = FAR;
    if (q < ends[FAR] || q >= ends[FAR + 1]) {
        symbol = 0;
        for (int k = 1; k < SYMBOLS; k++)
            symbol += ends[k] <= q;
    }
    take(stream, unit, (uint32_t)ends[symbol], (uint32_t)ends[symbol + 1]);
    return symbol;
}

/* As near_symbol, from a table of any number of symbols. */
static int far_symbol(Stream *stream, const int32_t *ends, int64_t symbols)
{
    uint64_t unit = stream->state.range >> 24;
    if (!unit)
        return -1;
    uint64_t quantile = (stream->state.point - stream->state.low) / unit;
    if (quantile >> 24)
        return -1;
    int64_t low = 0, high = symbols - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if ((uint64_t)ends[middle] <= quantile)
            low = middle;
        else
            high = middle - 1;
    }
    take(stream, unit, (uint32_t)ends[low], (uint32_t)ends[low + 1]);
    return (int)low;
}

/* -- one level -------------------------------------------------------------------------------- */

/* A grid, cut into blocks. */
typedef struct {
    int64_t height, width, side;
    int64_t rows, columns; /* of a block: side, or the grid's */
    int64_t down, right;   /* blocks */
    int64_t blocks;
} Shape;

/* Bytes by pass, as described at the top: [time][row][block], with borders around. Of each pass only
 * the rows that it can have are there, from max(0, (time - origin) >> shift) on: a tall block has
 * many rows, and few of them at a time. */
typedef struct {
    int8_t *bytes;
    int64_t before, above; /* times and rows of the border */
    int64_t by_time, by_row;
    int64_t origin;
    int shift;
} Seen;

static int8_t *seen_at(const Seen *seen, int64_t time, int64_t row)
{
    int64_t first = time > seen->origin ? (time - seen->origin) >> seen->shift : 0;
    return seen->bytes + (time + seen->before) * seen->by_time +
           (row - first + seen->above) * seen->by_row;
}

static int seen_alloc(Seen *seen, int64_t times, int64_t rows, int64_t blocks, int before,
                      int above)
{
    seen->before = before;
    seen->above = above;
    seen->by_row = blocks;
    seen->by_time = rows * blocks;
    /* A run is read up to PADDING bytes beyond the pass. */
    seen->bytes = calloc((size_t)(times * seen->by_time + PADDING), 1);
    return seen->bytes != NULL;
}

static int32_t clip(int32_t value, int32_t limit)
{
    return value < -limit ? -limit : value > limit ? limit : value;
}

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Positions (v, u) of the own grid: u from -2 to columns + 1, v from -2 to rows. A pass has at most
 * (columns + 1) / 2 rows; what it sees is in passes of up to 6 before and 3 after it, whose first
 * rows are up to 3 before and 2 after its own. */
static int own_alloc(Seen *own, const Shape *shape)
{
    int64_t rows = least_of(shape->rows, (shape->columns + 1) / 2);
    own->origin = shape->columns - 2;
    own->shift = 1;
    return seen_alloc(own, shape->columns + 2 * shape->rows + 8, rows + 4, shape->blocks, 6, 2);
}

/* The next coarser grid. Its row r is there twice, as 2 r and 2 r + 1, so that a position's row
 * and its parent's differ by nothing: the parent (v / 2 + y, c + x) is at [c + x + v + 2 y]
 * [v + 2 y], with c = u / 2. */
static int parents_alloc(Seen *parents, const Shape *shape, const int32_t *above)
{
    int64_t height = (shape->height + 1) / 2, width = (shape->width + 1) / 2;
    int64_t rows = (shape->rows + 1) / 2, columns = (shape->columns + 1) / 2, half = shape->side / 2;
    parents->origin = columns - 1;
    parents->shift = 0;
    if (!seen_alloc(parents, columns + 2 * rows + 9, least_of(2 * rows, columns) + 6,
                    shape->blocks, 3, 3))
        return 0;
    for (int64_t row = -1; row <= rows; row++)
        for (int64_t column = -1; column <= columns; column++) {
            int8_t *even = seen_at(parents, column + 2 * row, 2 * row);
            int8_t *odd = seen_at(parents, column + 2 * row + 1, 2 * row + 1);
            for (int64_t down = 0, k = 0; down < shape->down; down++) {
                int64_t i = down * half + row;
                for (int64_t right = 0; right < shape->right; right++, k++) {
                    int64_t j = right * half + column;
                    if (i >= 0 && i < height && j >= 0 && j < width)
                        even[k] = odd[k] = (int8_t)clip(above[i * width + j], LIMIT);
                }
            }
        }
    return 1;
}

/* How many of `count` blocks in a row have their position `at` inside a grid of `length`. */
static int64_t inside(int64_t length, int64_t side, int64_t at, int64_t count)
{
    int64_t found = (length - at + side - 1) / side;
    return found < count ? found : count;
}

/* A residual whose second symbol is still to come. */
typedef struct {
    int32_t position, scale, sign;
} Further;

/* Buffers for the positions of one pass. */
typedef struct {
    int32_t *mean, *scale, *value;
    int8_t *border[BORDERS];
    Further *further;
    int32_t *order;
} Buffers;

typedef struct {
    const int32_t *near;      /* (KEYS, SYMBOLS + 1) */
    const int32_t *far;       /* the tables of all scales, one after the other */
    const int64_t *far_start; /* (SCALES + 1) */
} Tables;

enum { DONE, INVALID, SHORT, NO_MEMORY };

/* The second symbols of a pass: by ascending scale, then in the order of the positions. */
static int decode_further(Stream *stream, const Tables *tables, Buffers *buffers, int32_t count)
{
    int32_t next[SCALES + 1] = {0};
    for (int32_t i = 0; i < count; i++)
        next[buffers->further[i].scale + 1]++;
    for (int s = 0; s < SCALES; s++)
        next[s + 1] += next[s];
    for (int32_t i = 0; i < count; i++)
        buffers->order[next[buffers->further[i].scale]++] = i;
    for (int32_t i = 0; i < count; i++) {
        Further further = buffers->further[buffers->order[i]];
        int64_t start = tables->far_start[further.scale];
        int64_t symbols = tables->far_start[further.scale + 1] - start - 1;
        int symbol = far_symbol(stream, tables->far + start, symbols);
        if (symbol < 0)
            return INVALID;
        buffers->value[further.position] += further.sign * symbol;
    }
    return DONE;
}

/* Predict the rows first..last of pass `time` into buffers->mean and ->scale. */
static void predict_pass(
    Predict predict, int together, const Network *net, const Shape *shape, const Seen *own,
    const Seen *parents, int64_t time, int64_t first, int64_t last, Buffers *buffers)
{
    const int8_t *runs[MAX_INPUTS];
    int count = 0;
    int64_t blocks = shape->blocks, size = (last + 1 - first) * blocks;
    for (int i = 0; i < COUNT(OWN); i++)
        runs[count++] = seen_at(own, time + OWN[i][1] + 2 * OWN[i][0], first + OWN[i][0]);
    if (parents)
        for (int y = -1; y <= 1; y++)
            for (int x = -1; x <= 1; x++)
                runs[count++] = seen_at(parents, time / 2 + x + 2 * y, first + 2 * y);
    int within = count;
    for (int i = 0; i < COUNT(ACROSS); i++)
        runs[count++] = seen_at(own, time + ACROSS[i][1] + 2 * ACROSS[i][0], first + ACROSS[i][0]);
    for (int i = 0; i < BORDERS; i++)
        runs[count++] = buffers->border[i];
    /* Only the first and the last row of a pass can be at a border: a row has two columns less
     * than the one before. */
    for (int end = 0; end < 2; end++) {
        int64_t v = end ? last : first, u = time - 2 * v;
        int8_t at[BORDERS] = {u == 0, v == 0, u == shape->side - 1, v == shape->side - 1};
        for (int i = 0; i < BORDERS; i++)
            memset(buffers->border[i] + (v - first) * blocks, at[i], (size_t)blocks);
    }
    for (int64_t start = 0; start < size; start += together) {
        int border = start < blocks || start + together > size - blocks;
        predict(net, border ? count : within, runs, start, buffers->mean + start,
                buffers->scale + start);
    }
    for (int i = 0; i < BORDERS; i++) {
        memset(buffers->border[i], 0, (size_t)blocks);
        memset(buffers->border[i] + size - blocks, 0, (size_t)blocks);
    }
}

/* Decode the rows first..last of pass `time` into buffers->value. */
static int decode_pass(Stream *stream, const Network *net, const Tables *tables,
                       const Shape *shape, int64_t time, int64_t first, int64_t last,
                       Buffers *buffers)
{
    int32_t further = 0;
    int64_t position = 0;
    memset(buffers->value, 0, (size_t)((last + 1 - first) * shape->blocks) * sizeof(int32_t));
    for (int64_t v = first; v <= last; v++) {
        int64_t down = inside(shape->height, shape->side, v, shape->down);
        int64_t right = inside(shape->width, shape->side, time - 2 * v, shape->right);
        for (int64_t i = 0; i < shape->down; i++, position += shape->right)
            for (int64_t p = position; i < down && p < position + right; p++) {
                int32_t mean = clip(buffers->mean[p], MEAN_LIMIT) + 16;
                int32_t scale = buffers->scale[p], value = mean >> 5;
                scale = scale < net->least ? net->least : scale < SCALES ? scale : SCALES - 1;
                if (scale) {
                    int key = scale << 5 | (mean & 31), sign = mean & 16 ? 1 : -1;
                    int symbol = near_symbol(stream, tables->near + key * (SYMBOLS + 1));
                    if (symbol < 0)
                        return INVALID;
                    value += sign * (symbol - FAR);
                    if (symbol == 0 || symbol == 2 * FAR)
                        buffers->further[further++] =
                            (Further){(int32_t)p, scale, symbol ? sign : -sign};
                }
                buffers->value[p] = value;
            }
    }
    if (further && decode_further(stream, tables, buffers, further) != DONE)
        return INVALID;
    /* The stream has a word more than there were steps, or two. */
    return stream->state.symbols && stream->state.steps + 1 > stream->count ? SHORT : DONE;
}

/* Make the values of a pass known to its own block, to its neighbours and to the caller. */
static void put_pass(const Shape *shape, Seen *own, int64_t time, int64_t first, int64_t last,
                     const int32_t *values, int32_t *grid)
{
    int64_t blocks = shape->blocks, right = shape->right;
    int8_t *here = seen_at(own, time, first);
    for (int64_t p = 0; p < (last + 1 - first) * blocks; p++)
        here[p] = (int8_t)clip(values[p], LIMIT);
    for (int64_t v = first; v <= last; v++) {
        int64_t u = time - 2 * v, p = (v - first) * blocks;
        const int8_t *row = here + p;
        /* Its first columns are the ones after the last of the block to the left. */
        if (u < 2) {
            int8_t *left = seen_at(own, time + shape->columns, v);
            for (int64_t k = 1; k < blocks; k++)
                if (k % right)
                    left[k - 1] = row[k];
        }
        /* Its first row is the one after the last of the blocks above, and touches the corners of
         * those beside. */
        if (v == 0) {
            int8_t *up = seen_at(own, u + 2 * shape->rows, shape->rows);
            memcpy(up, row + right, (size_t)(blocks - right));
            for (int64_t k = right; k < blocks; k++) {
                if (u == 0 && k % right)
                    seen_at(own, shape->columns + 2 * shape->rows, shape->rows)[k - right - 1] =
                        row[k];
                if (u == shape->columns - 1 && (k + 1) % right)
                    seen_at(own, 2 * shape->rows - 1, shape->rows)[k - right + 1] = row[k];
            }
        }
        for (int64_t i = 0; i < shape->down; i++, p += right) {
            int64_t y = i * shape->side + v;
            for (int64_t j = 0, x = u; j < right && y < shape->height && x < shape->width;
                 j++, x += shape->side)
                grid[y * shape->width + x] = values[p + j];
        }
    }
}

static int decode_passes(Stream *stream, int set, const Network *net, const Tables *tables,
                       const Shape *shape, const int32_t *above, int32_t *grid)
{
    Seen own = {0}, parents = {0};
    int64_t most = shape->rows * shape->blocks + PADDING; /* positions of a pass, at most */
    int32_t *numbers = calloc((size_t)most, 4 * sizeof(int32_t));
    int8_t *border = calloc((size_t)most, BORDERS);
    Buffers buffers = {0};
    buffers.further = malloc((size_t)most * sizeof(Further));
    int status = NO_MEMORY;
    if (numbers && border && buffers.further && own_alloc(&own, shape) &&
        (!above || parents_alloc(&parents, shape, above))) {
        buffers.mean = numbers;
        buffers.scale = numbers + most;
        buffers.value = numbers + 2 * most;
        buffers.order = numbers + 3 * most;
        for (int i = 0; i < BORDERS; i++)
            buffers.border[i] = border + i * most;
        status = DONE;
    }
    for (int64_t time = 0; status == DONE && time < shape->columns + 2 * shape->rows - 2; time++) {
        int64_t first = time - shape->columns + 2 > 0 ? (time - shape->columns + 2) / 2 : 0;
        int64_t last = time / 2 < shape->rows - 1 ? time / 2 : shape->rows - 1;
        if (first > last)
            continue;
        predict_pass(INSTRUCTIONS[set].predict, INSTRUCTIONS[set].positions, net, shape, &own,
                     above ? &parents : NULL, time, first, last, &buffers);
        status = decode_pass(stream, net, tables, shape, time, first, last, &buffers);
        if (status == DONE)
            put_pass(shape, &own, time, first, last, buffers.value, grid);
    }
    free(own.bytes);
    free(parents.bytes);
    free(numbers);
    free(border);
    free(buffers.further);
    return status;
}

/* -- Python ----------------------------------------------------------------------------------- */

/* Whether every scale but 0 has a table of at least one symbol. */
static int far_fits(const Py_buffer *far_start, const Py_buffer *far)
{
    const int64_t *start = far_start->buf;
    int good = start[0] == 0 && start[1] == 0 && start[SCALES] == far->len / 4;
    for (int s = 1; s < SCALES; s++)
        good = good && start[s + 1] - start[s] >= 2;
    if (!good)
        PyErr_SetString(PyExc_ValueError, "far_start: expected ascending numbers up to the end");
    return good;
}

PyDoc_STRVAR(decode_grid_doc,
"decode_grid(coder, words, grid, above, first, bias, hidden, hidden_bias, out, near, far,\n"
"             far_start, (height, width, side), (units, mean, scale, least), set)\n"
"\n"
"Decode one grid; see formats/native.py for the arguments. Returns DONE, INVALID, SHORT or\n"
"NO_MEMORY.");

enum { CODER, WORDS, GRID, ABOVE, FIRST, BIAS, HIDDEN, HIDDEN_BIAS, OUT, NEAR, FAR_ENDS, FAR_START,
       BUFFERS };

static PyObject *decode_grid(PyObject *module, PyObject *args)
{
    Py_buffer b[BUFFERS] = {{0}};
    Py_ssize_t height, width, side;
    int units, mean, scale, least, set;
    PyObject *result = NULL;
    (void)module;
    /* No buffer in a nested tuple: Python has no room to remember those that it must release. */
    if (!PyArg_ParseTuple(args, "w*y*w*z*y*y*y*y*y*y*y*y*(nnn)(iiii)i:decode_grid", &b[CODER],
                          &b[WORDS], &b[GRID], &b[ABOVE], &b[FIRST], &b[BIAS], &b[HIDDEN],
                          &b[HIDDEN_BIAS], &b[OUT], &b[NEAR], &b[FAR_ENDS], &b[FAR_START], &height,
                          &width, &side, &units, &mean, &scale, &least, &set))
        return NULL; /* what was taken has been released */
    int inputs = b[ABOVE].buf ? MAX_INPUTS : MAX_INPUTS - PARENTS;
    int64_t rows = (units + GROUP - 1) / GROUP * GROUP;
    if (!between(height, 1, 1 << 28, "height") || !between(width, 1, (1 << 28) / height, "width") ||
        !between(side, 8, 1 << 30, "side") || !between(units, 1, MAX_WIDTH, "units") ||
        !between(side & (side - 1), 0, 0, "bits of side below the first") ||
        !between(least, 0, SCALES - 1, "least") || !between(set, 0, SETS - 1, "set") ||
        !between(has_set(set), 1, 1, "instructions that this processor has") ||
        !between(mean, -(1 << 26), 1 << 26, "mean") || !between(scale, -(1 << 26), 1 << 26, "scale") ||
        !holds(&b[CODER], 5, 8, "coder") || !holds(&b[WORDS], b[WORDS].len / 4, 4, "words") ||
        !holds(&b[GRID], height * width, 4, "grid") ||
        (b[ABOVE].buf && !holds(&b[ABOVE], ((height + 1) / 2) * ((width + 1) / 2), 4, "above")) ||
        !holds(&b[FIRST], rows * inputs, 4, "first") || !holds(&b[BIAS], rows, 4, "bias") ||
        !holds(&b[HIDDEN], rows * units, 4, "hidden") ||
        !holds(&b[HIDDEN_BIAS], rows, 4, "hidden_bias") || !holds(&b[OUT], 2 * units, 4, "out") ||
        !holds(&b[NEAR], KEYS * (SYMBOLS + 1), 4, "near") ||
        !holds(&b[FAR_START], SCALES + 1, 8, "far_start") || !far_fits(&b[FAR_START], &b[FAR_ENDS]))
        goto release;
    Shape shape = {.height = height, .width = width, .side = side};
    shape.rows = height < side ? height : side;
    shape.columns = width < side ? width : side;
    shape.down = (height + side - 1) / side;
    shape.right = (width + side - 1) / side;
    shape.blocks = shape.down * shape.right;
    Network net = {.width = units, .rows = (int)rows, .inputs = inputs,
                   .first = b[FIRST].buf, .bias = b[BIAS].buf, .hidden = b[HIDDEN].buf,
                   .hidden_bias = b[HIDDEN_BIAS].buf, .out = b[OUT].buf, .level = {mean, scale},
                   .least = least};
    Tables tables = {b[NEAR].buf, b[FAR_ENDS].buf, b[FAR_START].buf};
    Stream stream = {.words = b[WORDS].buf, .count = (uint64_t)(b[WORDS].len / 4)};
    memcpy(&stream.state, b[CODER].buf, sizeof stream.state);
    if (!between((int64_t)(stream.state.range >> 32), 1, UINT32_MAX, "range"))
        goto release;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = decode_passes(&stream, set, &net, &tables, &shape, b[ABOVE].buf, b[GRID].buf);
    Py_END_ALLOW_THREADS
    memcpy(b[CODER].buf, &stream.state, sizeof stream.state);
    result = PyLong_FromLong(status);
release:
    for (int i = 0; i < BUFFERS; i++)
        PyBuffer_Release(&b[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"decode_grid", decode_grid, METH_VARARGS, decode_grid_doc},
    {"instructions", instructions, METH_NOARGS, instructions_doc},
    {NULL, NULL, 0, NULL},
};

static int add_constants(PyObject *module)
{
    return PyModule_AddIntMacro(module, DONE) || PyModule_AddIntMacro(module, INVALID) ||
           PyModule_AddIntMacro(module, SHORT) || PyModule_AddIntMacro(module, NO_MEMORY)
               ? -1
               : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_constants}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_native",
    .m_doc = "Decoding the latents of a grid in machine code.", .m_methods = methods,
    .m_slots = slots};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
