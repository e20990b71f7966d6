"""The metrics that a router shows, by type; one more is a summary, `tgi_request_skipped_tokens`."""

COUNTERS = {
    "tgi_request_count",
    "tgi_request_success",
    "tgi_request_failure",
    "tgi_batch_concat",
    "tgi_batch_inference_count",
    "tgi_batch_inference_success",
    "tgi_batch_inference_failure",
    "tgi_request_refused",
    "tgi_prefix_cache_hit_tokens",
    "tgi_prefix_cache_query_tokens",
}
GAUGES = {
    "tgi_queue_size",
    "tgi_batch_current_size",
    "tgi_batch_current_max_tokens",
    "tgi_batch_max_total_tokens",
    "tgi_kv_blocks_used",
    "tgi_kv_blocks_total",
    "tgi_kv_blocks_cached",
}
HISTOGRAMS = {
    "tgi_request_duration",
    "tgi_request_validation_duration",
    "tgi_request_queue_duration",
    "tgi_request_inference_duration",
    "tgi_request_mean_time_per_token_duration",
    "tgi_request_time_to_first_token_duration",
    "tgi_request_inter_token_latency_duration",
    "tgi_request_generated_tokens",
    "tgi_request_input_length",
    "tgi_request_max_new_tokens",
    "tgi_batch_next_size",
    "tgi_batch_inference_duration",
    "tgi_batch_forward_duration",
    "tgi_batch_decode_duration",
    "tgi_batch_filter_duration",
    "tgi_batch_concat_duration",
}
