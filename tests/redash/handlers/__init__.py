"""What Redash does with each request, a file a noun: a call flows in, an answer or a refusal flows out."""
