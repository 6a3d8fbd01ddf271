"""What a trained model achieves: metrics of its predictions, the reading of its learning curves, figures, a summary.

Everything works on plain arrays and dictionaries; nothing here knows of Keras or MLflow. `figures` alone imports
matplotlib; `drawing` calls it. Importing the package loads NumPy only.
"""

from mnistlab.evaluation.curves import CurveReading, read_curves
from mnistlab.evaluation.metrics import Evaluation, evaluate, most_confident_errors

__all__ = ["CurveReading", "Evaluation", "evaluate", "most_confident_errors", "read_curves"]
