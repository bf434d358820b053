"""A pump that wears, from first principles; one second here stands for a minute.

Friction grows with wear, friction makes heat, heat raises the bearing's temperature until cooling
balances it. A worn rotor shakes: its vibration is a sine at the speed of rotation whose amplitude
grows with wear. The motor's current carries load and friction. Wear feeds on itself, as damage
does.
"""

import math
from dataclasses import dataclass, field

import numpy as np

STEP_SECONDS = 0.05
AMBIENT = 22.0
HEAT_CAPACITY = 0.9
COOLING = 0.22
HEAT_PER_FRICTION = 5.0
ROTATION_HERTZ = 3.1
WEAR_PER_SECOND = 2e-5


@dataclass
class Pump:
    """One pump; ``seed`` gives it tolerances and noise of its own."""

    seed: int
    wear: float = 0.0
    """0 is new; at 1 the bearing seizes."""
    wear_factor: float = 1.0
    running: bool = True
    seconds: float = 0.0
    speed: float = 0.0
    temperature: float = AMBIENT
    _rng: np.random.Generator = field(init=False)
    _balance: float = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._balance = float(self._rng.uniform(0.9, 1.1))

    def step(self, seconds: float = STEP_SECONDS) -> None:
        """Let time pass."""
        self.seconds += seconds
        self.speed += (float(self.running) - self.speed) * seconds / 0.5
        friction = (1 + 4 * self.wear) * self.speed**2
        heating = HEAT_PER_FRICTION * friction - COOLING * (self.temperature - AMBIENT)
        self.temperature += heating * seconds / HEAT_CAPACITY
        growth = WEAR_PER_SECOND * self.wear_factor * (1 + 3 * self.wear) * self.speed**2
        self.wear = min(self.wear + growth * seconds, 1.0)

    def measured(self) -> dict[str, float]:
        """What its sensors say now: mm/s, °C and A, with their noise."""
        amplitude = 2.0 * self._balance * (1 + 9 * self.wear**1.5) * self.speed**2
        turn = 2 * math.pi * ROTATION_HERTZ * self.seconds
        current = 1.5 + (8.0 + 3.0 * (1 + 4 * self.wear)) * self.speed
        return {
            "vibration": amplitude * math.sin(turn) + float(self._rng.normal(0, 0.15)),
            "bearing_temperature": self.temperature + float(self._rng.normal(0, 0.3)),
            "motor_current": current + float(self._rng.normal(0, 0.1)),
        }
