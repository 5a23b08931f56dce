#include "place_index.hpp"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "dot.hpp"
#include "normalize.hpp"

namespace vpr {
namespace {

/// hnswlib's view of our rows: an element's data is the address of its descriptor, so nothing is stored twice.
class CosineSpace final : public hnswlib::SpaceInterface<float> {
   public:
    explicit CosineSpace(std::size_t dim) : dim_(dim) {}
    std::size_t get_data_size() override { return sizeof(const float*); }
    hnswlib::DISTFUNC<float> get_dist_func() override { return &distance; }
    void* get_dist_func_param() override { return &dim_; }

   private:
    static float distance(const void* a, const void* b, const void* dim) {
        const float* rows[2];
        std::memcpy(&rows[0], a, sizeof(rows[0]));  // hnswlib does not align what it stores
        std::memcpy(&rows[1], b, sizeof(rows[1]));
        return 1.0F - dot(rows[0], rows[1], *static_cast<const std::size_t*>(dim));
    }

    std::size_t dim_;
};

/// Keeps removed rows out of an answer. hnswlib's own marks are not used: an insertion in reach of marked elements
/// only reads before the start of its empty list of neighbours (mutuallyConnectNewElement in 0.8.0).
class NotRemoved final : public hnswlib::BaseFilterFunctor {
   public:
    explicit NotRemoved(const Rows& rows) : rows_(rows) {}
    bool operator()(hnswlib::labeltype row) override { return rows_.removed[row] == 0; }

   private:
    const Rows& rows_;
};

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
    const std::vector<std::pair<float, std::size_t>>& sorted() {
        std::sort_heap(heap_.begin(), heap_.end(), better);
        return heap_;
    }

   private:
    using Entry = std::pair<float, std::size_t>;
    static bool better(const Entry& a, const Entry& b) {
        return a.first > b.first || (a.first == b.first && a.second < b.second);
    }

    std::size_t k_;
    std::vector<Entry> heap_;
};

}  // namespace

/// The HNSW graph. Element i of hnswlib is row i of ours: rows are inserted in order, by one thread.
struct PlaceIndex::Graph {
    Graph(std::size_t dim, std::size_t capacity, std::size_t m, std::size_t ef_construction)
        : space(dim), hnsw(&space, capacity, m, ef_construction) {
        hnsw.setEf(1);  // search passes its own, see walk
    }

    void insert(const Rows& rows, std::size_t row) {
        if (row >= hnsw.getMaxElements()) hnsw.resizeIndex(row + row / 2 + Rows::kBlockRows);
        const float* descriptor = rows.at(row);
        hnsw.addPoint(&descriptor, row);
    }

    GraphImage to_image() const;
    static std::unique_ptr<Graph> from_image(const GraphImage& image, const Rows& rows);

    CosineSpace space;
    hnswlib::HierarchicalNSW<float> hnsw;
};

GraphImage PlaceIndex::Graph::to_image() const {
    const std::size_t rows = hnsw.cur_element_count;
    GraphImage image;
    image.m = static_cast<std::uint32_t>(hnsw.M_);
    image.ef_construction = static_cast<std::uint32_t>(hnsw.ef_construction_);
    image.max_level = hnsw.maxlevel_;
    image.entry_row = hnsw.enterpoint_node_;
    image.levels.reserve(rows);
    image.level0_links.assign(rows * image.level0_stride(), 0);
    const auto copy_list = [](const hnswlib::linklistsizeint* list, std::size_t length, std::uint32_t* to) {
        to[0] = static_cast<std::uint32_t>(length);
        std::memcpy(to + 1, list + 1, length * sizeof(std::uint32_t));
    };
    for (hnswlib::tableint row = 0; row < rows; ++row) {
        image.levels.push_back(static_cast<std::uint8_t>(hnsw.element_levels_[row]));
        const auto* level0 = hnsw.get_linklist0(row);
        copy_list(level0, hnsw.getListCount(const_cast<hnswlib::linklistsizeint*>(level0)),
                  image.level0_links.data() + row * image.level0_stride());
        for (int level = 1; level <= hnsw.element_levels_[row]; ++level) {
            const std::size_t at = image.upper_links.size();
            image.upper_links.resize(at + image.upper_stride(), 0);
            const auto* list = hnsw.get_linklist(row, level);
            copy_list(list, hnsw.getListCount(const_cast<hnswlib::linklistsizeint*>(list)),
                      image.upper_links.data() + at);
        }
    }
    return image;
}

std::unique_ptr<PlaceIndex::Graph> PlaceIndex::Graph::from_image(const GraphImage& image, const Rows& rows) {
    auto graph =
        std::make_unique<Graph>(rows.dim, std::max<std::size_t>(rows.size(), 1), image.m, image.ef_construction);
    auto& hnsw = graph->hnsw;
    std::memset(hnsw.data_level0_memory_, 0, rows.size() * hnsw.size_data_per_element_);
    const std::uint32_t* upper = image.upper_links.data();
    const auto copy_list = [&hnsw](const std::uint32_t* from, hnswlib::linklistsizeint* list) {
        hnsw.setListCount(list, static_cast<unsigned short>(from[0]));
        std::memcpy(list + 1, from + 1, from[0] * sizeof(std::uint32_t));
    };
    for (hnswlib::tableint row = 0; row < rows.size(); ++row) {
        const float* descriptor = rows.at(row);
        std::memcpy(hnsw.getDataByInternalId(row), &descriptor, sizeof(descriptor));
        hnsw.setExternalLabel(row, row);
        hnsw.label_lookup_[row] = row;
        copy_list(image.level0_links.data() + row * image.level0_stride(), hnsw.get_linklist0(row));
        const int levels = image.levels[row];
        if (levels > 0) {
            const std::size_t size = hnsw.size_links_per_element_ * static_cast<std::size_t>(levels) + 1;
            auto* lists = static_cast<char*>(std::calloc(size, 1));  // hnswlib frees it
            if (lists == nullptr) throw std::bad_alloc();
            hnsw.linkLists_[row] = lists;
        }
        // From here on hnswlib's destructor knows the row, and with it what it must free.
        hnsw.element_levels_[row] = levels;
        hnsw.cur_element_count = row + 1;
        for (int level = 1; level <= levels; ++level, upper += image.upper_stride()) {
            copy_list(upper, hnsw.get_linklist(row, level));
        }
    }
    hnsw.maxlevel_ = image.max_level;
    hnsw.enterpoint_node_ = image.entry_row;
    return graph;
}

PlaceIndex::PlaceIndex(std::size_t dim) {
    if (dim == 0 || dim > 65536) {
        throw std::invalid_argument("dim is " + std::to_string(dim) + ", expected 1 to 65536");
    }
    rows_.dim = dim;
}

PlaceIndex::~PlaceIndex() = default;

std::size_t PlaceIndex::size() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return rows_.size() - removed_count_;
}

std::size_t PlaceIndex::removed() const {
    const std::shared_lock<std::shared_mutex> reading(state_mutex_);
    return removed_count_;
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
    if (rows_.size() + count > std::numeric_limits<hnswlib::tableint>::max()) {
        throw std::invalid_argument("the index would hold more than 4294967295 rows, expected fewer");
    }
    for (std::size_t i = 0; i < count; ++i) {
        // One row a lock: a camera's query never waits for a batch.
        const auto changing = lock_to_change();
        const std::size_t row = rows_.size();
        rows_.append(ids[i], rows + i * dim());
        if (graph_) graph_->insert(rows_, row);
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
        ++removed_count_;
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
    auto graph = std::make_unique<Graph>(dim(), std::max<std::size_t>(total, 1), m, ef_construction);
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
    k = std::min(k, rows_.size() - removed_count_);
    if (k == 0) return {};
    if (exact || !graph_) return scan(queries, count, k);
    SearchResult result{k, std::vector<std::int64_t>(count * k), std::vector<float>(count * k)};
    for (std::size_t q = 0; q < count; ++q) {
        const float* query = queries + q * dim();
        if (!walk(query, k, ef, &result.ids[q * k], &result.similarities[q * k])) {
            // The graph cannot reach k places, after many removals say: k were promised, so scan.
            const SearchResult scanned = scan(query, 1, k);
            std::copy_n(scanned.ids.begin(), k, result.ids.begin() + static_cast<std::ptrdiff_t>(q * k));
            std::copy_n(scanned.similarities.begin(), k,
                        result.similarities.begin() + static_cast<std::ptrdiff_t>(q * k));
        }
    }
    return result;
}

SearchResult PlaceIndex::scan(const float* queries, std::size_t count, std::size_t k) const {
    std::vector<BestRows> best(count, BestRows(k));
    // Block by block, so that a block is read from memory once for all queries of an evaluation.
    for (std::size_t block = 0; block < rows_.blocks.size(); ++block) {
        const std::size_t first = block * Rows::kBlockRows;
        const std::size_t end = first + Rows::rows_in_block(block, rows_.size());
        for (std::size_t q = 0; q < count; ++q) {
            for (std::size_t row = first; row < end; ++row) {
                if (rows_.removed[row] != 0) continue;
                best[q].offer(dot(queries + q * dim(), rows_.at(row), dim()), row);
            }
        }
    }
    SearchResult result{k, {}, {}};
    result.ids.reserve(count * k);
    result.similarities.reserve(count * k);
    for (BestRows& rows : best) {
        for (const auto& [similarity, row] : rows.sorted()) {
            result.ids.push_back(rows_.ids[row]);
            result.similarities.push_back(std::clamp(similarity, -1.0F, 1.0F));
        }
    }
    return result;
}

bool PlaceIndex::walk(const float* query, std::size_t k, std::size_t ef, std::int64_t* ids, float* similarities) const {
    // hnswlib's own ef belongs to the index and not to the query; asking for ef neighbours is the same search.
    NotRemoved not_removed(rows_);
    auto found = graph_->hnsw.searchKnn(&query, std::max(k, ef), removed_count_ > 0 ? &not_removed : nullptr);
    while (found.size() > k) found.pop();
    if (found.size() < k) return false;
    for (std::size_t i = k; i-- > 0; found.pop()) {
        ids[i] = rows_.ids[found.top().second];
        similarities[i] = std::clamp(1.0F - found.top().first, -1.0F, 1.0F);
    }
    return true;
}

void PlaceIndex::save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const {
    const std::lock_guard<std::mutex> writing(write_mutex_);
    write_index_file(path, rows_, graph_ ? graph_->to_image() : GraphImage{}, contract, state);
}

std::unique_ptr<PlaceIndex> PlaceIndex::load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                             Fingerprint* state) {
    auto index = std::make_unique<PlaceIndex>(dim);
    IndexImage image = read_index_file(path, dim, contract);
    if (image.graph.m > 0) index->graph_ = Graph::from_image(image.graph, image.rows);
    index->rows_ = std::move(image.rows);
    index->row_of_id_.reserve(index->rows_.size());
    for (std::size_t row = 0; row < index->rows_.size(); ++row) {
        const std::int64_t id = index->rows_.ids[row];
        index->last_id_ = std::max(index->last_id_, id);
        if (index->rows_.removed[row] != 0) {
            ++index->removed_count_;
        } else if (id < 0 || !index->row_of_id_.emplace(id, row).second) {
            throw IndexFileError(path + ": holds place id " + std::to_string(id) + " twice or negative");
        }
    }
    *state = image.state;
    return index;
}

}  // namespace vpr
