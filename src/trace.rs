//! Jaeger JSON becomes traces, streamed, from a URL or a file.
