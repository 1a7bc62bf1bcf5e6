"""What Prefect's server does by itself when a run of the pipeline ends badly: tell somebody, and start a crashed one once more."""

# Prefect's clients lose the types of what they return, and its models those of what they are made from.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation, EventTrigger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.actions import RunDeployment, SendNotification
from prefect.events.schemas.automations import Posture

AGAIN, TELL = "lago: start a crashed run once more", "lago: tell that a run failed"
BLOCK = "lago-failure"
AGAIN_WITHIN = timedelta(hours=12)
"""A deployment is started again for the first crash in so long; what crashes twice wants a person."""
SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = "{{ flow_run.name }} ended as {{ flow_run.state.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}"


def _when(*states: str, **more: Any) -> EventTrigger:
    return EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in states},
        match=cast("Any", {"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=cast("Any", {"prefect.resource.role": "flow", "prefect.resource.name": "pipeline"}),
        posture=Posture.Reactive,
        threshold=1,
        **more,
    )


def watch(webhook: str | None) -> list[str]:
    """Set up what the server does, anew where it was set up before; returns the names of the automations.

    Args:
        webhook: an address to which JSON with `subject` and `text` is sent when a run of the pipeline failed or crashed; None: nobody is told.
    """
    wanted = [
        Automation(
            name=AGAIN,
            description="Artifacts that are finished are kept, so that it goes on where it was.",
            trigger=_when("Crashed", for_each={"related:deployment:prefect.resource.id"}, within=AGAIN_WITHIN),
            actions=[RunDeployment(source="inferred")],
        )
    ]
    if webhook is not None:
        block = CustomWebhookNotificationBlock(
            name=BLOCK, url=webhook, json_data={"subject": "{{subject}}", "text": "{{body}}"}
        )
        block_id = block.save(BLOCK, overwrite=True)
        tell = SendNotification(block_document_id=cast("Any", block_id), subject=SUBJECT, body=BODY)
        wanted.append(Automation(name=TELL, trigger=_when("Failed", "Crashed"), actions=[tell]))
    with get_client(sync_client=True) as client:
        for name in (AGAIN, TELL):
            for old in client.read_automations_by_name(name):
                client.delete_automation(old.id)
    for each in wanted:
        each.create()
    return [each.name for each in wanted]
