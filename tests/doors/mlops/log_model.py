"""Run with MLflow's own Python: logs an ONNX model as people do, and makes it the champion."""

import sys

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow.models import infer_signature

path, rows_path, alias, accuracy = sys.argv[1:]
mlflow.set_experiment("pumps")
rows = pd.read_csv(rows_path)
features = rows[["flow", "temp", "p1", "p2"]].astype(np.float32)
answers = np.zeros((len(rows), 3), np.float32)
with mlflow.start_run() as run:
    mlflow.log_params({"depth": 4})
    mlflow.log_metric("accuracy", float(accuracy))
    mlflow.set_tag("line", "2")
    mlflow.log_input(mlflow.data.from_pandas(rows, name="pump-rows"), context="training")
    logged = mlflow.onnx.log_model(
        onnx.load(path),
        name="model",
        registered_model_name="pump",
        signature=infer_signature(features, answers),
        input_example=features.head(12),
        pip_requirements=["onnx"],
    )
client = mlflow.MlflowClient()
version = max(int(v.version) for v in client.search_model_versions("name='pump'"))
client.set_registered_model_alias("pump", alias, str(version))
print(version, run.info.run_id, logged.model_uri)
