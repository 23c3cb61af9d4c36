"""What every section of the config is: frozen, and strict about its keys."""

from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class _OneOrMore:
    """Lets a list of one be written as its only member."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._listed, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}

    @staticmethod
    def _listed(value: object) -> object:
        return [value] if isinstance(value, str | int | float) else value


Item = TypeVar("Item")
OneOrMore = Annotated[tuple[Item, ...], _OneOrMore()]


class Section(BaseModel):
    """A mapping of the config.  Without any keys below it, it has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    def overridden_by(self, other: Self | None) -> Self:
        """This section, with the keys that stand in `other` taken from there."""
        if other is None:
            return self
        return self.model_copy(update={key: getattr(other, key) for key in other.model_fields_set})
