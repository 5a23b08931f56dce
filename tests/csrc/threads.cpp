// Changes and searches one index at the same time, for the thread sanitizer; see run_threads.sh.
//
//     threads SECONDS PATH   PATH: a file to write
//
// In the first half of the time the index grows from nothing, in the second it is loaded from a file. A slow machine
// gets more time, until enough was done for the run to mean anything.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "index/cursor.hpp"
#include "index/place_index.hpp"
#include "rows/normalize.hpp"
#include "search/cost_model.hpp"

namespace {

constexpr std::size_t kDim = 40;
constexpr std::size_t kMostRows = 6000;
constexpr double kMostTimes = 15.0;         // a busy machine may take up to this many times as long
constexpr std::size_t kShortestRun = 1100;  // rows that the first half must reach: two new middles

/// Unit rows near a mean that moves as rows are added, so that the index computes new middles.
class Rows {
   public:
    explicit Rows(std::uint32_t seed) : generator_(seed) {}

    std::vector<float> make(std::size_t count, std::size_t at) {
        std::vector<float> rows(count * kDim);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const float mean = i % kDim == at / 200 % kDim ? 6.0F : 0.5F;
            rows[i] = static_cast<float>(generator_() % 2001) / 1000.0F - 1.0F + mean;
        }
        if (at % 3 == 0) std::copy_n(rows.begin(), rows.size() - kDim, rows.begin() + kDim);  // identical frames
        vpr::l2_normalize(rows.data(), count, kDim, rows.data());
        return rows;
    }
    std::size_t below(std::size_t limit) { return generator_() % limit; }

   private:
    std::mt19937 generator_;
};

struct Run {
    std::unique_ptr<vpr::PlaceIndex> index;
    std::string path;
    std::atomic<bool> over{false};
    std::atomic<std::size_t> added{0};
    std::atomic<std::size_t> builds{0};
    std::atomic<std::size_t> searches[4] = {};
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "threads: %s\n", what);
    std::exit(1);
}

void check(const Run& run, const vpr::SearchResult& found) {
    if (found.ids.size() % std::max<std::size_t>(found.k, 1) != 0 || found.ids.size() != found.similarities.size()) {
        fail("an answer is not whole");
    }
    for (std::size_t i = 0; i < found.ids.size(); ++i) {
        if (found.ids[i] < 0 || found.ids[i] >= static_cast<std::int64_t>(run.added)) fail("an id was never added");
        if (i % found.k != 0 && found.similarities[i] > found.similarities[i - 1]) fail("an answer is out of order");
    }
    for (std::size_t first = 0; first < found.ids.size(); first += found.k) {
        const std::set<std::int64_t> ids(found.ids.data() + first, found.ids.data() + first + found.k);
        if (ids.size() != found.k) fail("an id is there twice");
    }
}

void change(Run& run, std::uint32_t seed) {
    Rows rows(seed);
    std::set<std::int64_t> there;
    const auto add = [&](std::size_t count) {
        const std::size_t first = run.added;
        std::vector<std::int64_t> ids;
        for (std::size_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int64_t>(first + i));
        const std::vector<float> descriptors = rows.make(count, first);
        run.added += count;  // before a search can find them
        run.index->add(ids.data(), descriptors.data(), count);
        there.insert(ids.begin(), ids.end());
    };
    while (!run.over) {
        if (run.added < kMostRows) add(1 + rows.below(40));
        if (there.size() > 100) {
            const std::int64_t gone[] = {*there.begin(), *there.rbegin()};
            run.index->remove(gone, 2);
            there.erase(gone[0]);
            there.erase(gone[1]);
        }
        if (rows.below(10) == 0) run.index->save(run.path, {}, {});
        if (rows.below(10) == 0) run.index->set_costs(vpr::Costs{});
        std::this_thread::yield();
    }
}

void build(Run& run) {
    // Start with rows but no graph, until after the first new middle.
    while (!run.over && run.added < 400) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    while (!run.over) {
        const bool cancelled = run.builds % 3 == 1;
        if (run.index->build_graph(4, 12, [&](std::size_t, std::size_t) { return !run.over && !cancelled; }) ||
            cancelled) {
            ++run.builds;
        }
        for (int i = 0; i < 20 && !run.over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

void search(Run& run, std::uint32_t seed, vpr::Method method) {
    Rows rows(seed);
    vpr::SearchOptions options;
    options.method = method;
    while (!run.over) {
        options.k = 1 + rows.below(12);
        if (method == vpr::Method::graph && !run.index->has_graph()) continue;
        const std::vector<float> queries = rows.make(3, rows.below(run.added + 1));
        check(run, run.index->search(queries.data(), 3, options));
        ++run.searches[static_cast<std::size_t>(method)];
        if (rows.below(20) == 0) {
            options.method = vpr::Method::choose;
            check(run, run.index->search(queries.data(), 3, options));
            options.method = method;
            // In this order, so that a row that is removed in between is not counted twice.
            const std::size_t removed = run.index->removed();
            if (removed + run.index->size() > run.added) fail("there are more rows than were added");
            if (run.index->last_id() >= static_cast<std::int64_t>(run.added)) fail("the last id was never added");
            run.index->verify();
        }
    }
}

void follow(Run& run, std::uint32_t seed) {
    Rows rows(seed);
    vpr::Cursor cursor(*run.index);
    for (std::size_t frame = 0; !run.over; ++frame) {
        const std::vector<float> query = rows.make(1, rows.below(run.added + 1));
        vpr::SearchOptions options;
        check(run, cursor.search(query.data(), options));
        if (frame % 100 == 99) cursor.reset();
        (void)cursor.followed();
        ++run.searches[0];
    }
}

/// What was done too rarely for the run to mean anything, or null.
const char* too_little(const Run& run, std::size_t fewest_rows) {
    for (const auto& count : run.searches) {
        if (count < 20) return "too slow: a way of searching was hardly tried";
    }
    if (run.builds < 2) return "too slow: too few graphs were built";
    return run.added < fewest_rows ? "too slow: too few rows were added" : nullptr;
}

void run_for(Run& run, double seconds, std::size_t fewest_rows) {
    std::vector<std::thread> threads;
    threads.emplace_back(change, std::ref(run), 1);
    threads.emplace_back(build, std::ref(run));
    threads.emplace_back(search, std::ref(run), 2, vpr::Method::scan);
    threads.emplace_back(search, std::ref(run), 3, vpr::Method::sketch);
    threads.emplace_back(search, std::ref(run), 4, vpr::Method::graph);
    threads.emplace_back(follow, std::ref(run), 5);
    const auto start = std::chrono::steady_clock::now();
    const auto passed = [&start] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    while (passed() < seconds || (too_little(run, fewest_rows) != nullptr && passed() < kMostTimes * seconds)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    run.over = true;
    for (std::thread& thread : threads) thread.join();
    std::printf("%.0f s, %zu rows, %zu builds; searches: %zu by cursor, %zu scan, %zu sketch, %zu graph\n", passed(),
                run.added.load(), run.builds.load(), run.searches[0].load(), run.searches[1].load(),
                run.searches[2].load(), run.searches[3].load());
    if (const char* what = too_little(run, fewest_rows)) fail(what);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const double seconds = std::atof(argv[1]);
    Run grown;
    grown.path = argv[2];
    grown.index = std::make_unique<vpr::PlaceIndex>(kDim, vpr::Precision::float16, vpr::best_kernels());
    run_for(grown, seconds / 2, kShortestRun);
    if (!grown.index->has_graph()) fail("there is no graph");
    grown.index->save(grown.path, {}, {});
    Run loaded;
    loaded.path = grown.path;
    vpr::Fingerprint state{};
    loaded.index = vpr::PlaceIndex::load(grown.path, kDim, {}, vpr::best_kernels(), &state);
    loaded.added = static_cast<std::size_t>(loaded.index->last_id()) + 1;
    run_for(loaded, seconds / 2, 0);
    return 0;
}
