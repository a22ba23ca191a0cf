"""What units mean, how unstable layers are, what perturbations do: studies with typed results."""

from advkit.analysis.ablation import AblationCurve as AblationCurve
from advkit.analysis.ablation import ablation as ablation
from advkit.analysis.convolutions import convolution_bound as convolution_bound
from advkit.analysis.distances import Distances as Distances
from advkit.analysis.distances import DistanceSummary as DistanceSummary
from advkit.analysis.distances import distances as distances
from advkit.analysis.distances import local_optimality as local_optimality
from advkit.analysis.distributions import class_distributions as class_distributions
from advkit.analysis.distributions_result import AnswerSet as AnswerSet
from advkit.analysis.distributions_result import ClassDistributions as ClassDistributions
from advkit.analysis.distributions_result import LogitPath as LogitPath
from advkit.analysis.evaluations import EvaluationCurve as EvaluationCurve
from advkit.analysis.evaluations import EvaluationCurves as EvaluationCurves
from advkit.analysis.evaluations import evaluation_curves as evaluation_curves
from advkit.analysis.gram import gram_bound as gram_bound
from advkit.analysis.norm_penalty import layer_norms as layer_norms
from advkit.analysis.norm_penalty import norm_penalty as norm_penalty
from advkit.analysis.probe import probe as probe
from advkit.analysis.probe_result import Moments as Moments
from advkit.analysis.probe_result import Probe as Probe
from advkit.analysis.probe_result import ProbeCell as ProbeCell
from advkit.analysis.rules import Bound as Bound
from advkit.analysis.spectrum import spectrum as spectrum
from advkit.analysis.spectrum_result import Layer as Layer
from advkit.analysis.spectrum_result import Spectrum as Spectrum
from advkit.analysis.units import units as units
from advkit.analysis.units_result import DirectionSet as DirectionSet
from advkit.analysis.units_result import Units as Units

__all__ = [
    "AblationCurve",
    "AnswerSet",
    "Bound",
    "ClassDistributions",
    "DirectionSet",
    "DistanceSummary",
    "Distances",
    "EvaluationCurve",
    "EvaluationCurves",
    "Layer",
    "LogitPath",
    "Moments",
    "Probe",
    "ProbeCell",
    "Spectrum",
    "Units",
    "ablation",
    "class_distributions",
    "convolution_bound",
    "distances",
    "evaluation_curves",
    "gram_bound",
    "layer_norms",
    "local_optimality",
    "norm_penalty",
    "probe",
    "spectrum",
    "units",
]
