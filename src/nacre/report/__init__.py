"""Pictures and pages of runs."""

from nacre.simulation import load_matplotlib as load_matplotlib  # before anything here imports Matplotlib
