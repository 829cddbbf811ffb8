//! Ingest engine for AWS VPC Traffic Mirroring.
