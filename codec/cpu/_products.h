/* Layers and their gradients at neighbouring latents or pixels, for one instruction set: included
 * by _each_set.h.
 *
 * Activations are arrays (rows, CHUNK): a row is one unit, or one input, at CHUNK neighbours.
 */

#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(name) GLUE(name, NAME)

typedef float OF(Vector) __attribute__((vector_size(4 * LANES), may_alias));
typedef float OF(Loose) __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

/* sums[r] = start[r] + sum over i of weights[i * stride + r] * x[i], at two vectors of latents;
 * `rows` is a constant wherever this is inlined, so that the sums stay in registers. */
static inline __attribute__((always_inline)) TARGET void OF(products)(
    int rows, const float *start, const float *weights, int stride, const float *x, int inputs,
    float *sums)
{
    OF(Vector) left[GROUP], right[GROUP];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        left[r] = right[r] = (OF(Vector)){0} + start[r];
    for (int i = 0; i < inputs; i++) {
        const OF(Vector) *at = (const OF(Vector) *)(x + i * CHUNK);
        OF(Vector) a = at[0], b = at[1];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            left[r] += weights[i * stride + r] * a;
            right[r] += weights[i * stride + r] * b;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        ((OF(Vector) *)(sums + r * CHUNK))[0] = left[r];
        ((OF(Vector) *)(sums + r * CHUNK))[1] = right[r];
    }
}

/* A layer: weights in groups of GROUP rows, each column by column. */
static TARGET void OF(layer)(const float *start, const float *weights, int rows, int inputs,
                             const float *x, float *sums, int count)
{
    for (int row = 0; row < rows; row += ROWS) {
        const float *part = weights + row / GROUP * GROUP * inputs + row % GROUP;
        for (int n = 0; n < count; n += 2 * LANES)
            OF(products)(ROWS, start + row, part, GROUP, x + n, inputs, sums + row * CHUNK + n);
    }
}

/* total[i][j] += sum over latents of a[i] * b[j], lane by lane, for a tile of 4 x `columns`; the
 * lanes are added up at the end. */
static inline __attribute__((always_inline)) TARGET void OF(outer)(
    int rows, int columns, const float *a, const float *b, OF(Vector) *total, int count)
{
    OF(Vector) sums[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            sums[i][j] = total[i * columns + j];
    for (int n = 0; n < count; n += LANES) {
        OF(Vector) right[4];
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            right[j] = *(const OF(Vector) *)(b + j * CHUNK + n);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            OF(Vector) left = *(const OF(Vector) *)(a + i * CHUNK + n);
#pragma GCC unroll 4
            for (int j = 0; j < columns; j++)
                sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            total[i * columns + j] = sums[i][j];
}

/* All tiles of an outer product of `rows` x `columns`, both multiples of 4. */
static TARGET void OF(outers)(int rows, int columns, const float *a, const float *b, float *total,
                              int count)
{
    for (int i = 0; i < rows; i += TILE)
        for (int j = 0; j < columns; j += 4) {
            OF(outer)(TILE, 4, a + i * CHUNK, b + j * CHUNK, (OF(Vector) *)total, count);
            total += TILE * 4 * LANES;
        }
}

/* The sums of `outers` with their lanes added up, to (rows, columns) with `stride` between rows. */
static TARGET void OF(collect)(int rows, int columns, int used_rows, int used_columns,
                               const float *total, double *out, int stride)
{
    for (int i = 0; i < rows; i += TILE)
        for (int j = 0; j < columns; j += 4, total += TILE * 4 * LANES)
            for (int r = 0; r < TILE * 4; r++) {
                int row = i + r / 4, column = j + r % 4;
                double sum = 0;
                for (int n = 0; n < LANES; n++)
                    sum += total[r * LANES + n];
                if (row < used_rows && column < used_columns)
                    out[row * stride + column] += sum;
            }
}
