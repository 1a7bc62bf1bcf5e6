"""Any order of replies, faults, kills and edits: nothing is paid twice, no paid answer is lost, spent and open stay within the budget."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lago_skills.llm import live
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.spending import Budget
from lago_skills.llm.transcripts import Request, TranscriptFile
from tests.endpoint import USAGE, Endpoint
from tests.llm_kills import Kills, UnsteadyServer, ask_until_done


@pytest.mark.timeout(300)
def test_no_order_of_replies_faults_kills_and_edits_pays_twice_or_loses_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.002)
    n_kills = 0
    for seed in range(25):
        rng = random.Random(seed)
        server, kills, path = UnsteadyServer(rng), Kills(rng), tmp_path / f"{seed}.jsonl"
        requests = [Request(f"plan/{number}", f"hello {number}") for number in range(6)]
        with Endpoint(server) as endpoint:
            config = LiveConfig(model="m", base_url=endpoint.url, max_tries=2, concurrency=1, budget_tokens=2_000_000)
            ask_until_done(config, requests, path, kills, rng)
        n_kills += kills.count
        file = TranscriptFile(path)
        budget = Budget.of(config, file)
        recorded = [each for each in file.all() if each.attempt]
        assert len({each.attempt for each in recorded}) == len(recorded), "no reply is recorded twice"
        for request in requests:
            assert len(file.answers(request, "m")) == 1
            unknown = sum(each.request.get("prompt") == request.prompt for each in budget.open.values())
            # What was answered in full is recorded; or, killed before it was on disk, still counted as perhaps paid.
            assert 1 <= server.paid[request.prompt] <= 1 + unknown
        assert budget.spent.tokens == USAGE["total_tokens"] * len(recorded)
        assert budget.spent.tokens + budget.reserved.tokens <= config.budget_tokens
        for each in list(budget.open.values()):
            budget.not_paid(each.name, "the bill does not have it")
        assert Budget.of(config, file).reserved.tokens == 0
    assert n_kills > 30
