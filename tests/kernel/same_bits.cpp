// Prints digests of what the kernel computes, so that two machines can be compared: see run_arm.sh.

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "checksum.hpp"
#include "normalize.hpp"
#include "place_index.hpp"

namespace {

constexpr std::size_t kPlaces = 3000;
constexpr std::size_t kDim = 472;
constexpr std::size_t kQueries = 50;

void print_search(const char* name, const vpr::SearchResult& found) {
    const std::uint32_t ids = vpr::crc32c(found.ids.data(), found.ids.size() * sizeof(std::int64_t));
    const std::uint32_t both = vpr::crc32c(found.similarities.data(), found.similarities.size() * sizeof(float), ids);
    std::printf("%s %08x\n", name, both);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    std::mt19937 generator(7);  // its numbers are the standard's; those of distributions are not
    std::vector<float> rows(kPlaces * kDim);
    for (float& value : rows) value = static_cast<float>(generator() % 2001) / 1000.0F - 1.0F;
    vpr::l2_normalize(rows.data(), kPlaces, kDim, rows.data());
    std::printf("normalised %08x\n", vpr::crc32c(rows.data(), rows.size() * sizeof(float)));

    std::vector<std::int64_t> ids(kPlaces);
    for (std::size_t i = 0; i < kPlaces; ++i) ids[i] = static_cast<std::int64_t>(i);
    vpr::PlaceIndex index(kDim);
    index.add(ids.data(), rows.data(), kPlaces);
    print_search("exact", index.search(rows.data(), kQueries, 10, true, 64));
    index.build_graph(16, 100, {});
    print_search("graph", index.search(rows.data(), kQueries, 10, false, 64));

    const std::string path = argv[1];
    index.save(path, {}, {});
    vpr::Fingerprint state{};
    print_search("loaded", vpr::PlaceIndex::load(path, kDim, {}, &state)->search(rows.data(), kQueries, 10, false, 64));
    return 0;
}
