#include "place_index.hpp"

#include <algorithm>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "dot.hpp"
#include "normalize.hpp"

namespace vpr {
namespace {

std::invalid_argument bad_id(std::int64_t id, const char* what) {
    std::ostringstream message;
    message << "place id " << id << ' ' << what;
    return std::invalid_argument(message.str());
}

/// The k best so far: a heap whose top is the worst. Equal similarities keep the earlier row.
class BestRows {
   public:
    explicit BestRows(std::size_t k) : k_(k) { heap_.reserve(k); }

    void offer(float similarity, std::size_t row) {
        const Entry entry{similarity, row};
        if (heap_.size() < k_) {
            heap_.push_back(entry);
            std::push_heap(heap_.begin(), heap_.end(), better);
        } else if (better(entry, heap_.front())) {
            std::pop_heap(heap_.begin(), heap_.end(), better);
            heap_.back() = entry;
            std::push_heap(heap_.begin(), heap_.end(), better);
        }
    }

    /// Best first; nothing may be offered afterwards.
    Nearest sorted() {
        std::sort_heap(heap_.begin(), heap_.end(), better);
        return std::move(heap_);
    }

   private:
    using Entry = Nearest::value_type;
    static bool better(const Entry& a, const Entry& b) {
        return a.first > b.first || (a.first == b.first && a.second < b.second);
    }

    std::size_t k_;
    Nearest heap_;
};

}  // namespace

PlaceIndex::PlaceIndex(std::size_t dim) {
    if (dim == 0 || dim > 65536) {
        throw std::invalid_argument("dim is " + std::to_string(dim) + ", expected 1 to 65536");
    }
    rows_.dim = dim;
}

PlaceIndex::~PlaceIndex() = default;

std::size_t PlaceIndex::size() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return rows_.size() - rows_.removed_count;
}

std::size_t PlaceIndex::removed() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return rows_.removed_count;
}

std::int64_t PlaceIndex::last_id() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return last_id_;
}

bool PlaceIndex::has_graph() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return graph_ != nullptr;
}

std::shared_lock<std::shared_mutex> PlaceIndex::lock_to_search() const {
    const std::lock_guard<std::mutex> next(turnstile_);
    return std::shared_lock<std::shared_mutex>(state_mutex_);
}

std::unique_lock<std::shared_mutex> PlaceIndex::lock_to_change() {
    const std::lock_guard<std::mutex> next(turnstile_);
    return std::unique_lock<std::shared_mutex>(state_mutex_);
}

void PlaceIndex::add(const std::int64_t* ids, const float* rows, std::size_t count) {
    require_unit_rows(rows, count, dim(), "descriptor");
    const std::lock_guard<std::mutex> writing(write_mutex_);
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (ids[i] < 0) throw bad_id(ids[i], "is negative, expected 0 or more");
        if (row_of_id_.count(ids[i]) != 0) throw bad_id(ids[i], "is in the index already; remove it first");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to add, expected once");
    }
    if (rows_.size() + count > std::numeric_limits<std::uint32_t>::max()) {
        throw std::invalid_argument("the index would hold more than 4294967295 rows, expected fewer");
    }
    auto fresh = rows_.blocks_for(count);
    {
        const auto changing = lock_to_change();
        rows_.make_room(count, std::move(fresh));
        row_of_id_.reserve(row_of_id_.size() + count);
    }
    for (std::size_t i = 0; i < count; ++i) {
        // One row a lock: a camera's query never waits for a batch.
        const auto changing = lock_to_change();
        const std::size_t row = rows_.size();
        rows_.append(ids[i], rows + i * dim());
        try {
            if (graph_) graph_->insert(rows_, row);
        } catch (const std::exception&) {
            graph_.reset();  // out of memory in the middle of an insertion: searches scan, and miss nothing
        }
        row_of_id_.emplace(ids[i], row);
        last_id_ = std::max(last_id_, ids[i]);
    }
}

void PlaceIndex::remove(const std::int64_t* ids, std::size_t count) {
    const std::lock_guard<std::mutex> writing(write_mutex_);
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (row_of_id_.count(ids[i]) == 0) throw bad_id(ids[i], "is not in the index");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to remove, expected once");
    }
    const auto changing = lock_to_change();
    for (std::size_t i = 0; i < count; ++i) {
        const auto found = row_of_id_.find(ids[i]);
        rows_.removed[found->second] = 1;
        row_of_id_.erase(found);
        ++rows_.removed_count;
    }
}

bool PlaceIndex::build_graph(std::size_t m, std::size_t ef_construction, const Progress& progress) {
    if (m < 2 || m > 128) throw std::invalid_argument("m is " + std::to_string(m) + ", expected 2 to 128");
    if (ef_construction < m || ef_construction > 4096) {
        throw std::invalid_argument("ef_construction is " + std::to_string(ef_construction) + ", expected " +
                                    std::to_string(m) + " to 4096");
    }
    // No lock on the state: rows do not change while we hold the writers' mutex, and searches go on.
    const std::lock_guard<std::mutex> writing(write_mutex_);
    const std::size_t total = rows_.size();
    auto graph = std::make_unique<HnswGraph>(dim(), std::max<std::size_t>(total, 1), m, ef_construction);
    for (std::size_t row = 0; row < total; ++row) {
        graph->insert(rows_, row);
        if (progress && (row % 256 == 255 || row + 1 == total) && !progress(row + 1, total)) return false;
    }
    const auto changing = lock_to_change();
    graph_ = std::move(graph);
    return true;
}

SearchResult PlaceIndex::search(const float* queries, std::size_t count, std::size_t k, bool exact,
                                std::size_t ef) const {
    require_unit_rows(queries, count, dim(), "query");
    const auto reading = lock_to_search();
    k = std::min(k, rows_.size() - rows_.removed_count);
    if (k == 0) return {};
    std::vector<Nearest> found;
    if (exact || !graph_) {
        found = scan(queries, count, k);
    } else {
        found.reserve(count);
        for (std::size_t q = 0; q < count; ++q) {
            const float* query = queries + q * dim();
            found.push_back(graph_->search(query, k, ef, rows_));
            // The graph cannot reach k places, after many removals say: k were promised, so scan.
            if (found.back().size() < k) found.back() = std::move(scan(query, 1, k).front());
        }
    }
    SearchResult result{k, {}, {}};
    result.ids.reserve(count * k);
    result.similarities.reserve(count * k);
    for (const Nearest& nearest : found) {
        for (const auto& [similarity, row] : nearest) {
            result.ids.push_back(rows_.ids[row]);
            result.similarities.push_back(std::clamp(similarity, -1.0F, 1.0F));
        }
    }
    return result;
}

std::vector<Nearest> PlaceIndex::scan(const float* queries, std::size_t count, std::size_t k) const {
    std::vector<BestRows> best(count, BestRows(k));
    // Block by block, so that a block is read from memory once for all queries of an evaluation.
    for (std::size_t block = 0; block * Rows::kBlockRows < rows_.size(); ++block) {
        const std::size_t first = block * Rows::kBlockRows;
        const std::size_t end = first + Rows::rows_in_block(block, rows_.size());
        for (std::size_t q = 0; q < count; ++q) {
            for (std::size_t row = first; row < end; ++row) {
                if (rows_.removed[row] != 0) continue;
                best[q].offer(dot(queries + q * dim(), rows_.at(row), dim()), row);
            }
        }
    }
    std::vector<Nearest> found;
    found.reserve(count);
    for (BestRows& rows : best) found.push_back(rows.sorted());
    return found;
}

void PlaceIndex::save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const {
    const std::lock_guard<std::mutex> writing(write_mutex_);
    write_index_file(path, rows_, graph_ ? graph_->to_image() : GraphImage{}, contract, state);
}

std::unique_ptr<PlaceIndex> PlaceIndex::load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                             Fingerprint* state) {
    auto index = std::make_unique<PlaceIndex>(dim);
    IndexImage image = read_index_file(path, dim, contract);
    if (image.graph.m > 0) index->graph_ = HnswGraph::from_image(image.graph, image.rows);
    index->rows_ = std::move(image.rows);
    index->row_of_id_.reserve(index->rows_.size());
    for (std::size_t row = 0; row < index->rows_.size(); ++row) {
        const std::int64_t id = index->rows_.ids[row];
        index->last_id_ = std::max(index->last_id_, id);
        if (index->rows_.removed[row] != 0) {
            ++index->rows_.removed_count;
        } else if (id < 0 || !index->row_of_id_.emplace(id, row).second) {
            throw IndexFileError(path + ": holds place id " + std::to_string(id) + " twice or negative");
        }
    }
    *state = image.state;
    return index;
}

}  // namespace vpr
