"""Pictures and tables of results. Needs the extra ``advkit[cli]`` (matplotlib and rich)."""

from .distributions import distributions as distributions
from .evaluations import evaluations as evaluations
from .grid import figure7 as figure7
from .heatmap import heatmap as heatmap
from .norms import norms as norms
from .plots import curves as curves
from .plots import dots as dots
from .strips import strips as strips
from .table import attack_table as attack_table
from .text import csv_text as csv_text
from .text import markdown_table as markdown_table
from .triples import figure5 as figure5
from .triples import figure6 as figure6
