"""The tables: what is a row, how it is measured, what is read from all of them."""
