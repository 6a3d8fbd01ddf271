"""The network and its training: models, augmentation layers, Keras's `fit` on the fused engine or plain, saved files.

`building` makes what a configuration trains; `plan_fit` decides how, `fit` trains and returns a `TrainingResult`,
`predict` gives metrics and probabilities of a split. `models` : networks, `saving`: files. Importing loads TensorFlow.
"""

from mnistlab.training.augmentation import augmented_versions
from mnistlab.training.callback_checks import check_callbacks, check_monitor
from mnistlab.training.compiling import compile_model
from mnistlab.training.fitting import fit, predict, saved_epoch, start_job, validates_on_test
from mnistlab.training.plan import FitPlan, plan_fit, resolved_settings
from mnistlab.training.result import TrainingResult

__all__ = [
    "FitPlan",
    "TrainingResult",
    "augmented_versions",
    "check_callbacks",
    "check_monitor",
    "compile_model",
    "fit",
    "plan_fit",
    "predict",
    "resolved_settings",
    "saved_epoch",
    "start_job",
    "validates_on_test",
]
