"""Jobs for the tests."""

import factory

from django_dbq.models import Job


class JobFactory(factory.django.DjangoModelFactory[Job]):
    """A job that does nothing, in the default queue."""

    class Meta:
        model = Job

    name = "noop"
