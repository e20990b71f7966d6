// Repeats calls that were recorded, without Python between them.
#include <cstdint>

extern "C" {

struct RecordedCall {
    void (*kernel)(const void*);
    const void* call;
};

struct ReplayCall {
    const RecordedCall* calls;
    int64_t count;
};

void tgi_replay(const ReplayCall* replay) {
    for (int64_t i = 0; i < replay->count; ++i) replay->calls[i].kernel(replay->calls[i].call);
}

}
