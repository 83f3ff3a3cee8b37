"""The Python side of bench/client. Usage: peer.py aiohttp|openai|litellm URL SECONDS CONCURRENCY. Prints one line of JSON."""
import asyncio
import json
import os
import resource
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched

PROMPT = "The user liked five films about the sea and none about space. Would the user like a film about a lighthouse?"
BODY = {"model": "bench", "max_tokens": 32, "temperature": 0, "n": 1, "messages": [{"role": "user", "content": PROMPT}]}


async def with_aiohttp(url, concurrency, measure):
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        async def ask():
            async with session.post(url + "/v1/chat/completions", json=BODY) as response:
                response.raise_for_status()
                await response.read()

        await measure(ask)


async def with_openai(url, concurrency, measure):
    import httpx
    import openai

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0, http_client=httpx.AsyncClient(limits=limits)) as client:
        async def ask():
            answer = await client.chat.completions.create(**BODY)
            assert answer.choices[0].message.content

        await measure(ask)


async def with_litellm(url, concurrency, measure):
    import litellm

    litellm.suppress_debug_info = True
    body = {**BODY, "model": "openai/bench"}

    async def ask():
        answer = await litellm.acompletion(api_base=url + "/v1", api_key="none", num_retries=0, **body)
        assert answer.choices[0].message.content

    await measure(ask)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(name, url, seconds, concurrency):
    async def loop(ask, duration):
        end, count = time.monotonic() + duration, 0

        async def sender():
            nonlocal count
            while time.monotonic() < end:
                await ask()
                count += 1

        await asyncio.gather(*(sender() for _ in range(concurrency)))
        return count

    async def measure(ask):
        await loop(ask, 1)
        before, start = cpu(), time.monotonic()
        count = await loop(ask, seconds)
        print(json.dumps({"requests": count, "seconds": time.monotonic() - start, "cpu_seconds": cpu() - before}))

    await {"aiohttp": with_aiohttp, "openai": with_openai, "litellm": with_litellm}[name](url, concurrency, measure)


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
