"""`python -m flows.main`: the command `lago`; see `lago_skills.flows.main`."""

from __future__ import annotations

from lago_skills.flows.main import main as main

if __name__ == "__main__":
    main()
