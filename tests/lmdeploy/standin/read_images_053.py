"""What LMDeploy 0.5.3 makes of messages with images, for a model that sees: drives its own code.

    read_images_053.py < MESSAGES.json

Its server needs the weights of the vision model to start; what it does before them needs none:
the prompt for InternVL2, and the images that it loads.
"""

import asyncio
import json
import sys

from lmdeploy.model import MODELS
from lmdeploy.vl.constants import IMAGE_TOKEN
from lmdeploy.vl.templates import InternVLChatTemplateWrapper


async def main():
    messages = json.load(sys.stdin)
    template = InternVLChatTemplateWrapper(MODELS.get("internvl2-internlm2")())
    images = await template.async_collect_pil_images(messages)
    prompt = template.messages2prompt(messages)
    sizes = [list(image.size) for image in images]
    print(json.dumps({"prompt": prompt.replace(IMAGE_TOKEN, "<IMAGE>"), "sizes": sizes}))


asyncio.run(main())
