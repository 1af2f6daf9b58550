"""Report of a benchmark: reads and compares cells, and writes tables, charts and an HTML page.

Import from its modules, so that only programs that make a report load pandas, matplotlib and Jinja2.
"""
