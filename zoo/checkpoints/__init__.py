"""Checkpoints of models: conversion from other files, export, validation, and loading by name."""
