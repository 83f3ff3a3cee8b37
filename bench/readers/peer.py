"""The Python side of bench/readers. Usage: peer.py pandas|polars|polars-streaming|polars-sums json|csv FILE. Prints one line of JSON."""
import json
import resource
import sys
import time

JSON = ["user_id", "parent_asin", "rating", "timestamp", "text"]
CSV = ["user_id", "item_id", "rating", "timestamp", "review"]


def with_pandas(kind, path):
    import pandas

    if kind == "json":
        chunks = pandas.read_json(path, lines=True, chunksize=100_000)
    else:
        chunks = pandas.read_csv(path, usecols=CSV, chunksize=100_000)
    rows, ratings = 0, 0.0
    for chunk in chunks:
        rows, ratings = rows + len(chunk), ratings + float(chunk["rating"].sum())
    return rows, ratings, 0  # it counts no bytes of texts


def scan(kind, path):
    import polars

    if kind == "json":
        schema = dict(zip(JSON, [polars.String, polars.String, polars.Float64, polars.Int64, polars.String]))
        return polars.scan_ndjson(path, schema=schema), "text"
    schema = dict(zip(CSV, [polars.String, polars.String, polars.Float64, polars.Int64, polars.String]))
    return polars.scan_csv(path, schema=schema), "review"


def sums(text):
    import polars

    return [polars.len().alias("rows"), polars.col("rating").sum().alias("ratings"), polars.col(text).str.len_bytes().sum().alias("text")]


def with_polars(kind, path, how):
    frame, text = scan(kind, path)
    if how == "sums":  # all columns are read and nothing is kept
        import polars

        lengths = [polars.col(c).str.len_bytes().sum().alias("of " + c) for c in ("user_id", "parent_asin" if kind == "json" else "item_id")]
        return frame.select(*sums(text), *lengths, polars.col("timestamp").max()).collect(engine="streaming").row(0)[:3]
    table = frame.collect(engine="streaming" if how == "streaming" else "in-memory")
    return table.select(*sums(text)).row(0)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(name, kind, path):
    if name == "pandas":
        import pandas  # noqa: F401, loading the library is not measured
    else:
        import polars  # noqa: F401
    start, used = time.monotonic(), cpu()
    library, _, how = name.partition("-")
    rows, ratings, text = with_pandas(kind, path) if library == "pandas" else with_polars(kind, path, how)
    print(json.dumps({"rows": rows, "ratings": ratings, "text": text, "seconds": time.monotonic() - start, "cpu_seconds": cpu() - used,
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


main(*sys.argv[1:])
