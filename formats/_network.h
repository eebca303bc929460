/* The context network at some positions side by side (SPEC.md, 9.3), for one instruction set:
 * included by _each_set.h.
 *
 * Every sum is one of integers whose absolute values sum up to less than 2^24, so float holds it
 * exactly in any order, whether products and additions are fused or not.
 */

#define SIDE_BY_SIDE (2 * LANES)

/* LANES bytes as floats. */
static inline TARGET void OF(load)(float *to, const int8_t *from)
{
#if LANES == 16
    _mm512_store_ps(to, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
        _mm_loadu_si128((const __m128i *)from))));
#elif LANES == 8
    _mm256_store_ps(to, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(
        _mm_loadl_epi64((const __m128i *)from))));
#else
    for (int n = 0; n < LANES; n++)
        to[n] = from[n];
#endif
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
            OF(load)(x + (2 * i + half) * LANES, runs[i] + start + half * LANES);
    /* Matrices lie in groups of GROUP rows, each column by column. */
    for (int row = 0; row < net->rows; row += ROWS)
        OF(products)(ROWS, net->bias + row,
                     net->first + row / GROUP * GROUP * net->inputs + row % GROUP, GROUP, x,
                     inputs, a + row * SIDE_BY_SIDE, SIDE_BY_SIDE);
    for (int n = 0; n < net->rows * SIDE_BY_SIDE; n++) {
        a[n] = a[n] > 0 ? a[n] : 0;
        a[n] = a[n] < TOP ? a[n] : TOP;
    }
    for (int row = 0; row < net->rows; row += ROWS)
        OF(products)(ROWS, net->hidden_bias + row,
                     net->hidden + row / GROUP * GROUP * net->width + row % GROUP, GROUP, a,
                     net->width, b + row * SIDE_BY_SIDE, SIDE_BY_SIDE);
    for (int n = 0; n < net->rows * SIDE_BY_SIDE; n++) {
        /* ">>" of a negative number is a floor division with every compiler. */
        int32_t sum = ((int32_t)b[n] + (1 << (ACTIVATION_BITS - 1))) >> ACTIVATION_BITS;
        sum = sum > 0 ? sum : 0;
        b[n] = sum < TOP ? sum : TOP;
    }
    OF(products)(2, net->level, net->out, 2, b, net->width, a, SIDE_BY_SIDE);
    for (int n = 0; n < SIDE_BY_SIDE; n++)
        mean[n] = ((int32_t)a[n] + 256) >> 9;
    for (int n = 0; n < SIDE_BY_SIDE; n++)
        scale[n] = 44 + (((int32_t)a[SIDE_BY_SIDE + n] + 1024) >> 11);
}

#undef SIDE_BY_SIDE
