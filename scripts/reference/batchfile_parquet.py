#!/usr/bin/env python3
"""The reference file of internal/batchfile, made with pyarrow 26.0.1.

    batchfile_parquet.py            writes internal/batchfile/testdata/pairs.parquet
    batchfile_parquet.py FILE       prints what pyarrow reads from FILE, a JSON object per row with sorted keys
"""
import json, os, sys
import pyarrow as pa
import pyarrow.parquet as pq

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/batchfile/testdata/pairs.parquet")
if len(sys.argv) > 1:
    file = pq.ParquetFile(sys.argv[1])
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            print(json.dumps(row, sort_keys=True, ensure_ascii=False))
else:
    pq.write_table(pa.table({
        "rating": pa.array([5.0, None, 3.0, 1.0, 2.0, 4.0, 4.5]),
        "user_id": pa.array([1, 2, 2**53 + 1, -4, None, 6, 7], pa.int64()),
        "item_id": pa.array(["i1", "naïve \"q\" 😀", "i3", "i1", "i5", "", "i7"]).dictionary_encode(),
        "custom_id": pa.array(["a", None, "c", "d", "e", "f", "g"]),
        "polarity": pa.array(["positive", "negative", None, "both", "both", "both", "sideways"]),
        "tags": pa.array([["x", "y"], [], None, ["z"], [], [], []]),
    }), OUT, row_group_size=3, compression="snappy")
