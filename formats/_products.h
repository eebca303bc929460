/* What all that is computed for one instruction set is made of: included by _each_set.h. */

#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(name) GLUE(name, NAME)

typedef float OF(Vector) __attribute__((vector_size(4 * LANES), may_alias));
/* One that begins anywhere. */
typedef float OF(Loose) __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

/* sums[r] = start[r] + sum over i of weights[i * stride + r] * x[i], two vectors of each, for `rows`
 * rows r. The rows of x and sums are `apart` floats from one another. `rows` is a constant
 * wherever this is inlined, so that the sums stay in registers. */
static inline __attribute__((always_inline)) TARGET void OF(products)(
    int rows, const float *start, const float *weights, int stride, const float *x, int inputs,
    float *sums, int apart)
{
    OF(Vector) left[GROUP], right[GROUP];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        left[r] = right[r] = (OF(Vector)){0} + start[r];
    for (int i = 0; i < inputs; i++) {
        const OF(Vector) *at = (const OF(Vector) *)(x + i * apart);
        OF(Vector) a = at[0], b = at[1];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            left[r] += weights[i * stride + r] * a;
            right[r] += weights[i * stride + r] * b;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        ((OF(Vector) *)(sums + r * apart))[0] = left[r];
        ((OF(Vector) *)(sums + r * apart))[1] = right[r];
    }
}
