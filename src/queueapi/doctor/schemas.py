"""The doctor's documents."""

from pydantic import BaseModel, ConfigDict, Field

from queueapi.doctor.check import Check
from queueapi.doctor.examine import Step, Treated
from queueapi.fields import MAX_ID, Flag, Whole


class CheckDocument(BaseModel):
    """What must hold, and what is done where it does not."""

    name: str
    what: str
    remedy: str
    mends: bool = Field(description="Whether a repair does that; else it is for people")

    @classmethod
    def of(cls, check: Check) -> "CheckDocument":
        return cls(name=check.name, what=check.what, remedy=check.remedy, mends=check.mends)


class CheckList(BaseModel):
    checks: list[CheckDocument]


class CheckRun(BaseModel):
    model_config = ConfigDict(extra="forbid")

    repair: Flag = Field(False, description="Mend what has one right answer")
    after: Whole = Field(
        0, ge=0, le=MAX_ID, description="Where to begin: `next` of the answer before"
    )


class FindingDocument(BaseModel):
    check: str
    subject: str = Field(description="What it is about, such as `job 17`")
    message: str = Field(description="What is wrong")
    remedy: str = Field(description="What is to be done, or was")
    mendable: bool
    mended: bool

    @classmethod
    def of(cls, treated: Treated) -> "FindingDocument":
        found = treated.finding
        return cls(
            check=found.check,
            subject=found.subject,
            message=found.message,
            remedy=found.remedy,
            mendable=found.mendable,
            mended=treated.mended,
        )


class CheckResult(BaseModel):
    """A part of a check. Go on with `after` set to `next` until that is null."""

    findings: list[FindingDocument]
    looked_at: int = Field(description="Rows that this part went through")
    next: int | None

    @classmethod
    def of(cls, step: Step) -> "CheckResult":
        findings = [FindingDocument.of(treated) for treated in step.treated]
        return cls(findings=findings, looked_at=step.looked_at, next=step.next)
