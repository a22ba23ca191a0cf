"""Pictures and tables of results. Needs the extra ``advkit[cli]`` (matplotlib and rich)."""

from .figure import figure5 as figure5
from .table import attack_table as attack_table
