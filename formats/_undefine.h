/* The end of what _each_set.h and _products.h define for one instruction set. */
#undef OF
#undef GLUE
#undef GLUE_
#undef NAME
#undef TARGET
#undef LANES
#undef ROWS
#undef TILE
