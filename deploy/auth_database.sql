-- Users and permissions; the database of the runs is made by POSTGRES_DB.
CREATE DATABASE mlflow_auth;
