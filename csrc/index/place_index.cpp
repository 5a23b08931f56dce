#include "index/place_index.hpp"

#include <algorithm>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "rows/normalize.hpp"

namespace vpr {
namespace {

constexpr std::size_t kBuildSlice = 16;  // rows that a build inserts before other writers get a turn

std::invalid_argument bad_id(std::int64_t id, const char* what) {
    std::ostringstream message;
    message << "place id " << id << ' ' << what;
    return std::invalid_argument(message.str());
}

Layout checked_layout(std::size_t dim, Precision precision) {
    if (dim == 0 || dim > 65536) {
        throw std::invalid_argument("dim is " + std::to_string(dim) + ", expected 1 to 65536");
    }
    return {dim, precision};
}

}  // namespace

PlaceIndex::PlaceIndex(std::size_t dim, Precision precision, const Kernels& kernels)
    : kernels_(kernels),
      layout_(checked_layout(dim, precision)),
      rows_(layout_),
      encoder_(std::make_unique<Encoder>(layout_, kernels, Centre::origin(dim))) {}

PlaceIndex::PlaceIndex(OpenedIndex opened, const Kernels& kernels)
    : kernels_(kernels),
      layout_(opened.rows.layout),
      file_(std::move(opened.file)),
      rows_(std::move(opened.rows)),
      encoder_(std::make_unique<Encoder>(layout_, kernels, std::move(opened.centre))),
      graph_(std::move(opened.graph)) {
    for (std::size_t row = 0; row < rows_.count; ++row) last_id_ = std::max(last_id_, rows_.id(row));
}

PlaceIndex::~PlaceIndex() = default;

std::size_t PlaceIndex::size() const {
    const auto reading = locks_.read();
    return rows_.count - rows_.removed_count;
}

std::size_t PlaceIndex::removed() const {
    const auto reading = locks_.read();
    return rows_.removed_count;
}

std::int64_t PlaceIndex::last_id() const {
    const auto reading = locks_.read();
    return last_id_;
}

bool PlaceIndex::has_graph() const {
    const auto reading = locks_.read();
    return graph_ != nullptr;
}

void PlaceIndex::prepare_to_change() {
    if (row_of_id_) return;
    // Check the whole file first: a save writes new checksums, which must not cover damage.
    if (file_) file_->need_all();
    row_of_id_ = std::make_unique<RowOfId>(rows_);
}

void PlaceIndex::add(const std::int64_t* ids, const float* rows, std::size_t count) {
    require_unit_rows(rows, count, dim(), "descriptor");
    const auto writing = locks_.write();
    prepare_to_change();
    if (count == 0) return;
    check_new_ids(ids, count);
    recentre_for(rows, count);
    write_rows(ids, rows, count);
    const std::int64_t largest = std::max(last_id_, *std::max_element(ids, ids + count));
    publish(count);
    const auto changing = locks_.change();
    last_id_ = largest;
}

void PlaceIndex::check_new_ids(const std::int64_t* ids, std::size_t count) const {
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (ids[i] < 0) throw bad_id(ids[i], "is negative");
        if (row_of_id_->find(rows_, ids[i])) throw bad_id(ids[i], "is in the index already; remove it first");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to add");
    }
    if (count > Rows::kLargest - rows_.count) {
        throw std::invalid_argument("the index would hold more than " + std::to_string(Rows::kLargest) + " rows");
    }
}

void PlaceIndex::recentre_for(const float* rows, std::size_t count) {
    std::optional<Centre> centre = centre_tracker_.update_for(rows_, *encoder_, rows, count);
    if (!centre) return;
    auto encoder = std::make_unique<Encoder>(layout_, kernels_, std::move(*centre));
    Rows encoded = rows_.count > 0 ? rows_.encoded_by(*encoder) : Rows(layout_);
    {
        const auto changing = locks_.change();
        rows_ = std::move(encoded);
        encoder_ = std::move(encoder);
    }
    ++codings_;
    if (builder_) builder_->recode();
}

/// Write rows behind the published ones. Searches do not see them yet.
void PlaceIndex::write_rows(const std::int64_t* ids, const float* rows, std::size_t count) {
    // Allocate before the first change that others see: only allocations can fail.
    auto growth = rows_.growth_for(count);
    row_of_id_->make_room(rows_, ids, count);
    {
        const auto changing = locks_.change();
        rows_.grow(std::move(growth));
    }
    double farthest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        farthest = std::max(farthest, rows_.write(rows_.count + i, ids[i], rows + i * dim(), *encoder_));
    }
    row_of_id_->add(static_cast<std::uint32_t>(rows_.count), ids, count);
    const auto changing = locks_.change();
    rows_.set_farthest(farthest);
}

/// Let searches see the next `count` rows.
void PlaceIndex::publish(std::size_t count) {
    if (graph_) {
        publish_with_graph(count);
        return;
    }
    const auto changing = locks_.change();
    rows_.publish(count);
}

void PlaceIndex::publish_with_graph(std::size_t count) {
    for (; count > 0; --count) {
        try {
            // Searches go on while a row is inserted. They wait only while its links are put in place.
            if (!builder_) builder_ = std::make_unique<GraphBuilder>(rows_, kernels_, *graph_);
            builder_->insert_next();
            auto growth = graph_->links.growth_for(rows_.count, rows_.count + 1);
            const auto changing = locks_.change();
            graph_->links.grow(std::move(growth));
            builder_->publish_last(*graph_);
            rows_.publish(1);
        } catch (const std::exception&) {
            // Out of memory during an insertion. Drop the graph; searches work without it.
            const auto changing = locks_.change();
            graph_.reset();
            builder_.reset();
            rows_.publish(count);
            return;
        }
    }
}

void PlaceIndex::remove(const std::int64_t* ids, std::size_t count) {
    const auto writing = locks_.write();
    prepare_to_change();
    std::unordered_set<std::int64_t> batch;
    for (std::size_t i = 0; i < count; ++i) {
        if (!row_of_id_->find(rows_, ids[i])) throw bad_id(ids[i], "is not in the index");
        if (!batch.insert(ids[i]).second) throw bad_id(ids[i], "occurs twice among those to remove");
    }
    const auto changing = locks_.change();
    for (std::size_t i = 0; i < count; ++i) {
        *rows_.removed.at(*row_of_id_->find(rows_, ids[i])) = 1;
        row_of_id_->remove(ids[i]);
        ++rows_.removed_count;
    }
}

bool PlaceIndex::build_graph(std::size_t m, std::size_t ef_construction, const Progress& progress) {
    if (m < 2 || m > 128) throw std::invalid_argument("m is " + std::to_string(m) + ", expected 2 to 128");
    if (ef_construction < m || ef_construction > 4096) {
        throw std::invalid_argument("ef_construction is " + std::to_string(ef_construction) + ", expected " +
                                    std::to_string(m) + " to 4096");
    }
    const auto building = locks_.build();
    std::unique_ptr<GraphBuilder> builder;
    std::size_t coding = 0;
    for (bool reported = false;;) {
        std::size_t done = 0;
        std::size_t total = 0;
        {
            // The index can change between slices. Rows that are added meanwhile are inserted later.
            const auto writing = locks_.write();
            if (!builder) {
                if (file_) file_->need_all();
                builder = std::make_unique<GraphBuilder>(rows_, kernels_, m, ef_construction);
            } else if (coding != codings_) {
                builder->recode();
            }
            coding = codings_;
            total = rows_.count;
            if (reported && builder->size() == total) {
                auto graph = builder->to_graph();
                const auto changing = locks_.change();
                graph_.swap(graph);
                builder_.reset();  // the first add makes a new one: most maps are built once and then only searched
                return true;
            }
            const std::size_t end = std::min(builder->size() + kBuildSlice, total);
            while (builder->size() < end) builder->insert_next();
            done = builder->size();
        }
        // The last row is reported before the graph is put in place, so a cancelled build changes nothing.
        reported = true;
        if (progress && !progress(done, total)) return false;
    }
}

Cascade PlaceIndex::cascade() const {
    const bool unchecked = file_ && !file_->all_checked();
    return {rows_, graph_.get(), *encoder_, kernels_, unchecked ? file_.get() : nullptr};
}

Method PlaceIndex::choose(const SearchOptions& options) const {
    if (options.method == Method::graph && !graph_) {
        throw std::invalid_argument("the method is 'graph' and there is no graph; call build_graph first");
    }
    if (options.method != Method::choose) return options.method;
    return cheapest(costs_, layout_, rows_.count, graph_ != nullptr, kept_on_walk(rows_, options.k, options.ef));
}

SearchResult PlaceIndex::search(const float* queries, std::size_t count, const SearchOptions& options) const {
    require_unit_rows(queries, count, dim(), "query");
    const auto reading = locks_.read();
    SearchResult result;
    result.effort.method = choose(options);
    result.k = std::min(options.k, rows_.count - rows_.removed_count);
    if (result.k == 0) return result;
    result.ids.reserve(count * result.k);
    result.similarities.reserve(count * result.k);
    Cascade cascade = this->cascade();
    const Method method = result.effort.method;
    for (std::size_t q = 0; q < count; ++q) {
        const EncodedQuery query = encoder_->encode_query(queries + q * dim(), method == Method::sketch);
        append_answer(cascade.by(method, query, result.k, options.ef), result);
    }
    result.effort = cascade.effort();
    return result;
}

void PlaceIndex::append_answer(const Nearest& nearest, SearchResult& result) const {
    if (nearest.size() != result.k) {
        throw IndexFileError("the index contradicts itself: a search found " + std::to_string(nearest.size()) +
                             " places, expected " + std::to_string(result.k) + "; build it again");
    }
    for (const auto& [similarity, row] : nearest) {
        result.ids.push_back(rows_.id(row));
        result.similarities.push_back(std::clamp(similarity, -1.0F, 1.0F));  // rounding may exceed 1
    }
}

void PlaceIndex::set_costs(const Costs& costs) {
    const auto changing = locks_.change();
    costs_ = costs;
}

void PlaceIndex::save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const {
    const auto writing = locks_.write();
    if (file_) file_->need_all();  // damage must not get a new, valid checksum
    write_index_file(path, rows_, encoder_->centre(), graph_.get(), contract, state);
}

std::unique_ptr<PlaceIndex> PlaceIndex::load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                             const Kernels& kernels, Fingerprint* state) {
    OpenedIndex opened = open_index_file(path, dim, contract);
    *state = opened.state;
    return std::unique_ptr<PlaceIndex>(new PlaceIndex(std::move(opened), kernels));
}

void PlaceIndex::verify() const {
    // Keep writers away: they may write to a block that is being checked.
    const auto writing = locks_.write();
    if (file_) file_->need_all();
}

}  // namespace vpr
