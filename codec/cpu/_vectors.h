/* What the modules share besides the instruction sets. */

#define CHUNK 128 /* neighbours that are evaluated together, at most */

/* Element (row, column) of a matrix of `columns` columns that lies in groups of rows, each of them
 * column by column. */
static inline float *grouped(float *matrix, int columns, int row, int column)
{
    return matrix + (row / GROUP * columns + column) * GROUP + row % GROUP;
}

/* The first address from here on that the widest vectors can begin at. */
static inline void *aligned(void *memory)
{
    return (void *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
}

/* Pointers to the rows of an array (rows, CHUNK). */
static inline void rows_of(const float *array, int count, const float **rows)
{
    for (int i = 0; i < count; i++)
        rows[i] = array + i * CHUNK;
}
