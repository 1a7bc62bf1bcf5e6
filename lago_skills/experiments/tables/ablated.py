"""A replicate with one part exchanged at a time: its decoders, their likelihoods, and the libraries that they make."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from lago_skills.artifacts.folder import fingerprint, verify
from lago_skills.decoder.calibration import uncalibrated
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.trained_decoder import DecoderWeights
from lago_skills.experiments.cells import Say
from lago_skills.experiments.replicate import Replicate
from lago_skills.experiments.tables import opposites
from lago_skills.experiments.tables.variants import DEFAULT, VARIANTS, RawGrounding, Variant
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.query.query_network import LearnedQuery
from lago_skills.stages import build, pretrain, query
from lago_skills.stages.job import digest
from lago_skills.stages.planning.phrases import phrases
from lago_skills.stages.segment import Labelled
from lago_skills.study import GuideConfig
from lago_skills.worlds.grounding import Grounding


class Ablated:
    """One replicate with its parts exchanged, variant by variant; a decoder is trained once, whoever asks for it."""

    def __init__(self, replicate: Replicate, other: Replicate, say: Say) -> None:
        """`other` has the demonstrations that nobody trains on."""
        self._replicate, self._say = replicate, say
        self.space = replicate.segmented
        self.labelled, self._fresh = replace(replicate.labelled, ends=None), other.labelled
        self._trained: dict[str, tuple[DecoderWeights, float]] = {}

    @cached_property
    def learned(self) -> tuple[LearnedQuery, float]:
        """The learned query of the default decoder, and its `top_1`."""
        self.decoder(VARIANTS[DEFAULT])
        folder, seed = self.space.artifact("decoder"), self.space.study.seed
        job = query.job(self.space, folder, seed)
        return query.learned(job), float(verify(job.folder).summary["top_1"])

    @cached_property
    def pairs(self) -> opposites.Opposites:
        """The opposites, embedded."""
        return opposites.load(self.space.root, self.labelled.embeddings)

    def config(self, chosen: Variant) -> DecoderConfig:
        """The decoder's settings."""
        return DecoderConfig(**{**self.space.study.decoder.model_dump(), **chosen.decoder})

    def grounding(self, chosen: Variant) -> Grounding:
        """What the decoder sees."""
        usual = self.space.study.grounding
        return cast("Grounding", RawGrounding(usual)) if chosen.raw else usual

    def shown(self, chosen: Variant) -> Labelled:
        """The labelled demonstrations, as the decoder of a variant sees states and sentences."""
        texts = self.labelled.embeddings
        if chosen.one_hot:
            texts = dict(zip(texts, np.eye(len(texts), dtype=np.float32), strict=True))
        return replace(self.labelled, grounding=self.grounding(chosen), embeddings=texts)

    def decoder(self, chosen: Variant) -> tuple[DecoderWeights, float]:
        """A variant's decoder, and how many seconds its training took."""
        config = self.config(chosen)
        key = f"{chosen.raw} {chosen.one_hot} {config.model_dump_json()}"
        if key not in self._trained:
            own = config != self.space.study.decoder or chosen.raw or chosen.one_hot
            self._trained[key] = self._train(chosen, config) if own else self._default()
        decoder, seconds = self._trained[key]
        return decoder if chosen.calibrated else uncalibrated(decoder), seconds

    def _default(self) -> tuple[DecoderWeights, float]:
        self._replicate.make(lambda: pretrain.jobs(self.space))
        folder = self.space.artifact("decoder")
        decoder = pretrain.load(folder)
        assert isinstance(decoder, DecoderWeights)  # of continuous actions, as this table is
        return decoder, verify(folder).seconds

    def _train(self, chosen: Variant, config: DecoderConfig) -> tuple[DecoderWeights, float]:
        from lago_skills.decoder.pretrain import pretrain as fit

        self._say(f"{self.space.place.name}: pretrain {chosen.decoder or chosen}")
        started = time.monotonic()
        study, shown, words = self.space.study, self.shown(chosen), None
        steps = shown.steps(config, study.weighting)
        if config.uses_phrases:
            words = phrases(shown.skills, self.space.transcripts, study.all_tasks, study.grounding.synonyms)
        decoder, _ = fit(steps, config, study.seed, lambda update, metrics: None, words)
        assert isinstance(decoder, DecoderWeights)  # discrete algorithms are refused for continuous actions
        return decoder, time.monotonic() - started

    def densities(self, chosen: Variant, decoder: DecoderWeights) -> dict[str, float]:
        """Likelihoods and coverage of demonstrations that nobody has trained on."""
        from lago_skills.decoder import calibration

        shown = self.shown(chosen)
        both = {task: [*runs, *self._fresh.episodes[task]] for task, runs in shown.episodes.items()}
        later = [replace(s, episode=s.episode + len(shown.episodes[s.task_id])) for s in self._fresh.segments]
        steps = replace(shown, episodes=both, segments=[*shown.segments, *later]).steps(self.config(chosen))
        fresh = steps.segments >= len(shown.segments)
        return calibration.figures(decoder, replace(steps, held_out=fresh), np.flatnonzero(fresh))

    def guide(self, chosen: Variant, decoder: DecoderWeights) -> LibraryGuide:
        """The library of a variant."""
        settings = RetrievalConfig(**self.settings(chosen))
        learned = self.learned[0] if settings.query != "playbook" else None
        return build.assemble(self.shown(chosen), decoder, settings, learned)

    def settings(self, chosen: Variant) -> dict[str, Any]:
        """Of retrieval."""
        return GuideConfig(**{**self.space.study.guide.model_dump(), **chosen.guide}).model_dump()

    def separation(self, chosen: Variant, decoder: DecoderWeights) -> float | None:
        """Share of the opposites whose paraphrase is nearer; numbers have neither."""
        if chosen.one_hot:
            return None
        return round(opposites.separation(self.pairs.table(decoder.latents), "after")["told"], 4)

    @cached_property
    def bundle(self) -> str:
        """Fingerprint of what the variants change."""
        inputs = {name: digest(self.space.artifact(name)) for name in ("segments", "playbooks")}
        settings = self.space.study.model_dump(mode="json", include={"decoder", "guide", "query"})
        return fingerprint(inputs | settings)[:12]
