"""Who the device is: its key, its certificate, enrolment and renewal."""
