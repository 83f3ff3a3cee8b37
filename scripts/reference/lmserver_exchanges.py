#!/usr/bin/env python3
"""Trims recorded request/response pairs of vLLM 0.32.0 (CPU build, tiny random Llama, hidden size 128, vocabulary 2048, 512 positions)
to one JSON line each, for internal/lmserver's conformance test. Usage: lmserver_exchanges.py RECORDINGS_DIR > exchanges.jsonl"""
import json
import pathlib
import sys

CASES = """
auth_001 auth_002 auth_003 auth_004 auth_005 auth_006 auth_008
llama_001 llama_002 llama_003 llama_004 llama_007 llama_008 llama_009 llama_010 llama_011 llama_012 llama_013 llama_014 llama_015
llama_016 llama_017 llama_018 llama_019 llama_020 llama_021 llama_026 llama_031 llama_032 llama_033 llama_034 llama_035 llama_036
llama_039 llama_040 llama_041 llama_042 llama_043 llama_044 llama_045 llama_046 llama_050 llama_053 llama_055 llama_057 llama_062 llama_068
llama_076 llama_077 llama_080 llama_081 llama_083 llama_087 llama_088 llama_089 llama_090 llama_091 llama_093 llama_095 llama_096
llama_097 llama_099 llama_105 llama_106 llama_107 llama_110 llama_112 llama_117 llama_118 llama_121 llama_123 llama_124 llama_125
llama_126 llama_127 llama_128 llama_129 llama_130 llama_137 llama_138 llama_142 llama_143 llama_144 llama_145 llama_146
llama_174 llama_175 llama_176 llama_177 llama_178 llama_181 llama_182 llama_183 llama_184 llama_185 llama_186 llama_187 llama_188
llama_189 llama_190 llama_191 llama_192 llama_193 llama_194 llama_195 llama_196 llama_197 llama_198 llama_199 llama_200 llama_201
llama_202 llama_203 llama_204 llama_206 llama_208 llama_209 llama_210 llama_211 llama_212 off_003
""".split()

folder = pathlib.Path(sys.argv[1])
for case in CASES:
    (path,) = folder.glob(case + "_*.json")
    d = json.loads(path.read_text())
    q, r = d["request"], d["response"]
    out = {"case": path.stem, "method": q["method"], "path": q["path"], "headers": q["headers"]}
    if q.get("raw_body") is not None:
        out["raw_body"] = q["raw_body"]
    elif q.get("body") is not None:
        out["body"] = q["body"]
    out["status"] = r["status"]
    out["content_type"] = r["headers"].get("content-type", "")
    if "json" in r:
        out["json"] = r["json"]
    elif not out["content_type"].startswith("text/plain"):
        out["text"] = r.get("text", "")
    print(json.dumps(out, ensure_ascii=False, separators=(",", ":")))
