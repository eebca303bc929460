/* The context network at some positions side by side (SPEC.md, 9.3), for one instruction set.
 *
 * Included once for each, with
 *   NAME    its name
 *   TARGET  an attribute that permits its instructions, or nothing
 *   LANES   floats of a vector: two vectors are computed at a time
 *   LOAD    (to, from): LANES bytes as floats
 *   ROWS    rows of a matrix whose sums are in registers at the same time; a divisor of GROUP
 *
 * Every sum is one of integers whose absolute values sum up to less than 2^24, so float holds it
 * exactly in any order, whether products and additions are fused or not.
 */

#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(name) GLUE(name, NAME)
#define SIDE_BY_SIDE (2 * LANES)

typedef float OF(Floats) __attribute__((vector_size(4 * LANES), may_alias));

/* sums[r] = start[r] + sum over i of weights[i * stride + r] * x[i] for `rows` rows r: a constant
 * wherever this is inlined, so that the sums stay in registers. */
static inline __attribute__((always_inline)) TARGET void OF(products)(
    int rows, const float *start, const float *weights, int stride, const float *x, int inputs,
    float *sums)
{
    OF(Floats) left[GROUP], right[GROUP];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        left[r] = right[r] = (OF(Floats)){0} + start[r];
    for (int i = 0; i < inputs; i++) {
        const OF(Floats) *at = (const OF(Floats) *)(x + i * SIDE_BY_SIDE);
        OF(Floats) a = at[0], b = at[1];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            left[r] += weights[i * stride + r] * a;
            right[r] += weights[i * stride + r] * b;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        ((OF(Floats) *)sums)[2 * r] = left[r];
        ((OF(Floats) *)sums)[2 * r + 1] = right[r];
    }
}

/* Means and scale indices, not yet clamped, at SIDE_BY_SIDE positions.
 *
 * inputs: how many of the first layer's, from the first on, are not zero at these positions.
 * runs: for each input where its value at position 0 is; `start`: the first of the positions. */
static TARGET void OF(predict)(
    const Network *net, int inputs, const int8_t *const *runs, int64_t start, int32_t *mean,
    int32_t *scale)
{
    float x[MAX_INPUTS * SIDE_BY_SIDE] __attribute__((aligned(64)));
    float a[MAX_WIDTH * SIDE_BY_SIDE] __attribute__((aligned(64)));
    float b[MAX_WIDTH * SIDE_BY_SIDE] __attribute__((aligned(64)));
    for (int i = 0; i < inputs; i++)
        for (int half = 0; half < 2; half++)
            LOAD(x + (2 * i + half) * LANES, runs[i] + start + half * LANES);
    /* Matrices lie in groups of GROUP rows, each column by column. */
    for (int row = 0; row < net->rows; row += ROWS)
        OF(products)(ROWS, net->bias + row,
                     net->first + row / GROUP * GROUP * net->inputs + row % GROUP, GROUP, x,
                     inputs, a + row * SIDE_BY_SIDE);
    for (int n = 0; n < net->rows * SIDE_BY_SIDE; n++) {
        a[n] = a[n] > 0 ? a[n] : 0;
        a[n] = a[n] < TOP ? a[n] : TOP;
    }
    for (int row = 0; row < net->rows; row += ROWS)
        OF(products)(ROWS, net->hidden_bias + row,
                     net->hidden + row / GROUP * GROUP * net->width + row % GROUP, GROUP, a,
                     net->width, b + row * SIDE_BY_SIDE);
    for (int n = 0; n < net->rows * SIDE_BY_SIDE; n++) {
        /* ">>" of a negative number is a floor division with every compiler. */
        int32_t sum = ((int32_t)b[n] + 32) >> 6;
        sum = sum > 0 ? sum : 0;
        b[n] = sum < TOP ? sum : TOP;
    }
    OF(products)(2, net->level, net->out, 2, b, net->width, a);
    for (int n = 0; n < SIDE_BY_SIDE; n++)
        mean[n] = ((int32_t)a[n] + 256) >> 9;
    for (int n = 0; n < SIDE_BY_SIDE; n++)
        scale[n] = 44 + (((int32_t)a[SIDE_BY_SIDE + n] + 1024) >> 11);
}

#undef SIDE_BY_SIDE
#undef OF
#undef GLUE
#undef GLUE_
#undef NAME
#undef TARGET
#undef LANES
#undef LOAD
#undef ROWS
