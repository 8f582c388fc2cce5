"""From measurements to what people read: comparisons, tables, charts, pages."""
