/* Instruction sets, in the order in which tables of functions list them, the fastest first.
 *
 * GCC for Windows does not align a stack as wide vectors need it; there are none there. */

_Static_assert(sizeof(void *) == 8, "sizes of grids need 64 bits");

#if defined(__x86_64__) && !defined(_WIN32)
#define WIDE_VECTORS
#endif

#ifdef WIDE_VECTORS
enum { AVX512, AVX2, PLAIN, SETS };
static const char *const SET_NAMES[SETS] = {"avx512", "avx2", "plain"};
#else
enum { PLAIN, SETS };
static const char *const SET_NAMES[SETS] = {"plain"};
#endif

/* Whether this processor has the instructions. */
static int has_set(int set)
{
#ifdef WIDE_VECTORS
    if (set == AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (set == AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return set >= 0 && set < SETS;
}

#define GROUP 8      /* rows of a matrix that lie together */
#define MAX_LANES 16 /* floats of a vector */

/* Attributes of functions that use them. */
#define WITH_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define WITH_AVX2 __attribute__((target("avx2,fma")))

PyDoc_STRVAR(instructions_doc,
"instructions()\n"
"\n"
"The instruction sets that this module was compiled for, as pairs of a name and of whether this\n"
"processor has it; the fastest first. Functions take their numbers.");

static PyObject *instructions(PyObject *module, PyObject *none)
{
    PyObject *found = PyList_New(0);
    (void)module;
    (void)none;
    for (int set = 0; found && set < SETS; set++) {
        PyObject *pair = Py_BuildValue("sO", SET_NAMES[set], has_set(set) ? Py_True : Py_False);
        if (!pair || PyList_Append(found, pair) < 0)
            Py_CLEAR(found);
        Py_XDECREF(pair);
    }
    return found;
}

/* Whether a buffer holds `count` numbers of `size` bytes; else an exception is set. */
static int holds(const Py_buffer *buffer, int64_t count, int64_t size, const char *name)
{
    if (buffer->len != count * size)
        PyErr_Format(PyExc_ValueError, "%s: expected %lld bytes, got %zd", name,
                     (long long)(count * size), buffer->len);
    else if ((uintptr_t)buffer->buf % (uintptr_t)size)
        PyErr_Format(PyExc_ValueError, "%s: expected an address that %lld divides", name,
                     (long long)size);
    else
        return 1;
    return 0;
}

/* Whether a number is in a range; else an exception is set. */
static int between(int64_t value, int64_t least, int64_t most, const char *name)
{
    if (least <= value && value <= most)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s: expected %lld..%lld, got %lld", name, (long long)least,
                 (long long)most, (long long)value);
    return 0;
}
