/* Sizes that all instruction sets share. */

#define CHUNK 128    /* neighbours that are evaluated together, at most */
#define GROUP 8      /* rows of a matrix that lie together */
#define MAX_LANES 16 /* floats of a vector */

/* Element (row, column) of a matrix of `columns` columns that lies in groups of rows, each of them
 * column by column. */
static float *grouped(float *matrix, int columns, int row, int column)
{
    return matrix + (row / GROUP * columns + column) * GROUP + row % GROUP;
}
