"""Bodies of requests and answers, in OpenAI's shapes with our extensions by name (pydantic, the HTTP edge only).

Names that we do not know are allowed, and reported in the log: clients send what other servers want.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dimoo.sampling.presets import Preset
from dimoo.serve.pictures import OutputFormat, Polarity

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
SEED_MAX = 2**63 - 1


def _numbers(value: object) -> object:
    """`"1,2,3,4"` (a form field) as a list."""
    values = value.split(",") if isinstance(value, str) else value
    if isinstance(values, list) and len(values) != 4:
        raise ValueError("four whole numbers are needed")
    return values


Sides = Annotated[tuple[int, int, int, int], BeforeValidator(_numbers)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        """A null is what is left out: clients that write unset fields send it."""
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values

    @property
    def unknown(self) -> list[str]:
        """Names that nothing here reads."""
        return sorted(self.model_extra or {})


class Sampling(_Lenient):
    """What all picture requests share."""

    model: str | None = None
    n: int = Field(default=1, ge=1)
    size: str | None = Field(default=None, max_length=32, description="auto or WIDTHxHEIGHT")
    width: int | None = Field(default=None, ge=1, le=65536)
    height: int | None = Field(default=None, ge=1, le=65536)
    quality: Quality = Field(
        default="auto", description="low: a quarter of the steps, medium: half, xhigh and max: twice"
    )
    background: Literal["auto", "opaque", "transparent"] = "auto"
    output_format: OutputFormat = "png"
    output_compression: int = Field(
        default=100, ge=0, le=100, description="quality of webp and jpeg; webp is lossless at 100"
    )
    response_format: Literal["b64_json", "url"] = Field(default="b64_json", description="url gives a data URL")
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=3)
    negative_prompt: str | None = None
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(
        default=None, ge=1, allow_inf_nan=False, description="as in diffusers: cfg_scale + 1"
    )
    true_cfg_scale: float | None = Field(
        default=None, ge=1, allow_inf_nan=False, description="the same as guidance_scale"
    )
    seed: int | None = Field(default=None, ge=0, le=SEED_MAX)
    cfg_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cfg_img: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    choice_temperature: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    preset: Preset | None = Field(default=None, description="a way of sampling by name: steps, cache, contrasts")
    use_cache: bool = False
    cache_ratio: float = Field(default=0.9, ge=0, le=1)
    warmup_ratio: float = Field(default=0.3, ge=0, le=1)
    refresh_interval: int = Field(default=5, ge=1)
    lora: Any = None


class GenerationBody(Sampling):
    prompt: str


class EditBody(Sampling):
    """The fields of the form that are no files."""

    prompt: str = ""
    edit_type: str | None = Field(default=None, max_length=64)
    expand: Sides | None = Field(default=None, description="outpaint: top,bottom,left,right pixels")
    box: Sides | None = Field(default=None, description="inpaint: top,left,height,width of a rectangle")
    mask_polarity: Polarity = "auto"
    dilation: int = Field(default=0, ge=0, le=256)
    softness: int = Field(default=2, ge=0, le=64)
    paste: bool = Field(default=True, description="outside the mask the input's own pixels, to the bit")
    from_photo: bool = Field(default=False, description="canny_control: make the edge map from the photograph sent")


class ImageUrl(_Lenient):
    url: str


class Part(_Lenient):
    """One part of a message's content."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class ChatMessage(_Lenient):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    images: list[Part] | None = Field(default=None, description="pictures of an earlier answer")


class StreamOptions(_Lenient):
    include_usage: bool = False


class ChatBody(_Lenient):
    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    modalities: list[Literal["text", "image", "audio"]] | None = None
    n: int = Field(default=1, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, description="of a picture; text ignores it")
    seed: int | None = Field(default=None, ge=0, le=SEED_MAX)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    stream_drafts: bool = Field(default=False, description="chunks carry `draft`: the answer with its gaps")
    tools: list[Any] | None = None
    logprobs: bool | None = None
    preset: Preset | None = Field(default=None, description="a way of sampling by name: steps, cache, contrasts")
    steps: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, gt=0, lt=1, description="reveal all that is surer than this")
    interleaved: bool = Field(default=False, description="pictures stand where the text says <image>")
    size: str | None = Field(default=None, max_length=32)
    edit_type: str | None = Field(default=None, max_length=64)
    cfg_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class InputDetails(BaseModel):
    text_tokens: int
    image_tokens: int


class ImageUsage(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails


class ImageData(BaseModel):
    b64_json: str | None = None
    url: str | None = None
    seed: int


class ImageAnswer(BaseModel):
    created: int
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: str
    size: str
    data: list[ImageData]
    usage: ImageUsage


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dimoo"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail
