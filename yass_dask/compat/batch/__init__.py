"""Large binary files in batches, as YASS 0.10 had it: readers, `BatchProcessor` and `BatchPipeline`."""

from yass_dask.compat.batch.binary import BinaryReader, MemoryMap
from yass_dask.compat.batch.pipeline import BatchPipeline, PipedTransformation
from yass_dask.compat.batch.processor import BatchProcessor
from yass_dask.compat.batch.reader import RecordingsReader

__all__ = ["BatchPipeline", "BatchProcessor", "BinaryReader", "MemoryMap", "PipedTransformation", "RecordingsReader"]
