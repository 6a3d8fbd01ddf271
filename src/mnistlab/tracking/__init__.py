"""The record of a run: its folder first, then MLflow; earlier runs; where a result comes from.

`recorder` writes a run's folder and mirrors it to the tracking store, `description` says what is recorded besides the
metrics. The store's side runs in the background process (`background`, `run_proxy`): `mlflow_store`, `mlflow_runs` and
`mlflow_models` are the only modules that call MLflow. `history` reads earlier runs, `stores` resolves where runs are
recorded, `provenance` and `fingerprint` say what a result depends on. Importing the package loads no MLflow.
"""
