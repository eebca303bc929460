/* Includes the file KERNELS, named as this directory sees it, once for each instruction set, with
 *   NAME    its name
 *   TARGET  an attribute that permits its instructions, or nothing
 *   LANES   floats of a vector
 *   ROWS    rows of a matrix whose sums, two vectors each, are in registers at the same time; a
 *           divisor of GROUP
 *   TILE    rows, times 4 columns, of an outer product in registers: 2 or 4
 * and what _products.h makes of them.
 */

#ifdef WIDE_VECTORS
#define NAME avx512
#define TARGET WITH_AVX512
#define LANES 16
#define ROWS 8
#define TILE 4
#include "_products.h"
#include KERNELS
#include "_undefine.h"
#define NAME avx2
#define TARGET WITH_AVX2
#define LANES 8
#define ROWS 4
#define TILE 2
#include "_products.h"
#include KERNELS
#include "_undefine.h"
#endif
#define NAME plain
#define TARGET
#define LANES 4
#define ROWS 4
#define TILE 2
#include "_products.h"
#include KERNELS
#include "_undefine.h"
