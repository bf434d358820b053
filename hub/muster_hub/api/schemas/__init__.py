"""Bodies of requests and answers, one file a resource, with the document's examples."""
