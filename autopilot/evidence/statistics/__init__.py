"""The statistics that judgement rests on: arrays in, evidence out."""
