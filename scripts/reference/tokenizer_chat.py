#!/usr/bin/env python3
"""Reference renderings for internal/tokenizer/chat, made with transformers 5 (jinja2 3.1): writes internal/tokenizer/chat/testdata/golden.json.

The templates are ours, written to use what those of published models use."""
import datetime, json, os
import transformers
from transformers.utils import chat_template_utils as ctu

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/tokenizer/chat/testdata")
PARTS = "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
TEMPLATES = {
    "roles": "{% for m in messages %}<|{{ m['role'] }}|>" + PARTS + "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "chatml": """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "headers": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools: " }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|head|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|head|>\\n\\n' }}
{%- endif %}
""",
    "instruct": """{{ bos_token }}{% set ns = namespace(index=0) %}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}
{% for message in rest %}
{% if (message['role'] == 'user') != (ns.index % 2 == 0) %}
{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% set ns.index = ns.index + 1 %}
{% if message['role'] == 'user' %}
{% if loop.last and system is defined %}{{ '[INST] ' + system + '\\n\\n' + message['content'] + '[/INST]' }}{% else %}{{ '[INST] ' + message['content'] + '[/INST]' }}{% endif %}
{% elif message['role'] == 'assistant' %}
{{ ' ' + message['content'] | trim + eos_token }}
{% else %}
{{ raise_exception('unknown role ' + message['role']) }}
{% endif %}
{% endfor %}""",
    "vicuna": """{% for message in messages %}
    {% if loop.index0 == 0 and message.role == 'system' %}
{{ message.content.strip() }} 
    {% elif message.role == 'user' %}
USER: {{ message.content.strip() }} 
    {% else %}
ASSISTANT: {{ message.content.split('#')[-1].lstrip() }}{{ eos_token }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
ASSISTANT:{% endif %}
""",
    "json": """{%- set ns = namespace(last=-1) %}{%- for m in messages[::-1] %}{%- if ns.last == -1 and m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{{- ns.last }}|{% for m in messages %}{{ m | tojson }}
{{ m.content | tojson(indent=2) }}{{ ';' if not loop.last }}{% endfor %}""",
    "macro": """{% macro show(c) -%}{% if c is string %}{{ c }}{% else %}{% for p in c %}{% if p.type == 'text' %}{{ p.text }}{% else %}<{{ p.type }}:{{ p.get('n', 0) }}>{% endif %}{% endfor %}{% endif %}{%- endmacro -%}
{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ m['role'] | upper }}: {{ show(m.content) | replace('\\n', ' ') }}{% if 'x' in m.role or m.role in ['user', 'tool'] %}!{% endif %}
{% endfor %}{{ ['a', 'b'] | join('-') }}{{ messages | length }}{{ add_generation_prompt }}""",
}
CHATS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": " Who? "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b # c "}, {"role": "user", "content": "d\n\ne"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
    [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}],
    [{"role": "tool", "content": "<b>&amp; \"quoted\" 'single' \u2028 é 漢 👍 \t\u0001</b>"}],
    [{"role": "user", "content": "{{ messages }} {% raw %}"}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": [{"type": "text", "text": "see "}, {"type": "prompt_embeds", "n": 3, "data": {"z": 1, "a": [True, None, 2.5, 1e20, -0.0]}}, {"type": "text", "text": " ok"}]}],
    [{"content": [], "role": "user"}],
]

class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 13, 5, 9)

def main():
    ctu.datetime = Frozen
    cases = []
    for name, src in TEMPLATES.items():
        for i, chat in enumerate(CHATS):
            for gen in (False, True):
                try:
                    out, _ = ctu.render_jinja_template([chat], chat_template=src, add_generation_prompt=gen, bos_token="<s>", eos_token="</s>")
                    cases.append({"template": name, "chat": i, "generate": gen, "out": out[0]})
                except Exception as e:
                    cases.append({"template": name, "chat": i, "generate": gen, "error": f"{type(e).__name__}: {e}"})
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "golden.json"), "w") as f:
        json.dump({"transformers": transformers.__version__, "templates": TEMPLATES, "chats": CHATS, "cases": cases}, f, indent=1)
        f.write("\n")

main()
